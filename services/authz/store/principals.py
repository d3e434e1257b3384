"""Principals, read from several collections: the key, its creator and their membership."""

from services.authz.membership.access import lower_role
from shared.contracts.principal import Principal
from shared.mongo import Database, raises_unavailable


@raises_unavailable
class PrincipalStore:
    """Reads who is behind a secret."""

    def __init__(self, database: Database) -> None:
        self._organisations = database["organisations"]
        self._users = database["users"]
        self._keys = database["keys"]

    async def find_by_key(self, key_hash: str) -> Principal | None:
        """Return the principal behind a key; None if it is unknown or revoked, or its creator is no longer a member.

        A member who was removed and came back has none of the keys from before.
        """
        key = await self._keys.find_one({"hash": key_hash, "revoked_at": None})
        if key is None:
            return None
        organisation = await self._organisations.find_one(
            {"_id": key["organisation"]}, {"members": {"$elemMatch": {"user_id": key["creator_id"]}}}
        )
        user = await self._users.find_one({"_id": key["creator_id"]}, {"email": 1})
        if organisation is None or not organisation.get("members") or user is None:
            return None
        if key["created_at"] < organisation["members"][0]["joined_at"]:
            return None
        return Principal(
            organisation=key["organisation"],
            role=lower_role(key["role"], organisation["members"][0]["role"]),
            key_id=key["_id"],
            user_id=key["creator_id"],
            email=user["email"],
            valid_until=key.get("expires_at"),
        )
