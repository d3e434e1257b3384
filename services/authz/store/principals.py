"""Principals, read from several collections: the key or session, its person and their membership."""

from datetime import datetime, timedelta

from services.authz.membership.access import lower_role
from services.authz.store.sessions import stored_session
from shared.contracts.principal import Principal, Role
from shared.mongo import Database, raises_unavailable


@raises_unavailable
class PrincipalStore:
    """Reads who is behind a secret."""

    def __init__(self, database: Database) -> None:
        self._organisations = database["organisations"]
        self._users = database["users"]
        self._keys = database["keys"]
        self._sessions = database["sessions"]

    async def find_by_key(self, key_hash: str) -> Principal | None:
        """Return the principal behind a key; None if it is unknown or revoked, or its creator is no longer a member.

        A member who was removed and came back has none of the keys from before.
        """
        key = await self._keys.find_one({"hash": key_hash, "revoked_at": None})
        if key is None:
            return None
        found = await self._find_member(key["organisation"], key["creator_id"], key["created_at"])
        if found is None:
            return None
        email, role = found
        return Principal(
            organisation=key["organisation"],
            role=lower_role(key["role"], role),
            key_id=key["_id"],
            user_id=key["creator_id"],
            email=email,
            valid_until=key.get("expires_at"),
            projects=key.get("projects"),
        )

    async def find_by_session(self, session_hash: str, idle: timedelta) -> Principal | None:
        """Return the signed-in member; None if there is no such session, or they are no longer a member.

        A session ends after being unused for `idle`, which the principal's `valid_until` says.
        """
        document = await self._sessions.find_one({"hash": session_hash})
        if document is None:
            return None
        session = stored_session(document)
        found = await self._find_member(session.organisation, session.user_id, session.created_at)
        if found is None:
            return None
        email, role = found
        return Principal(
            kind="member",
            organisation=session.organisation,
            role=role,
            user_id=session.user_id,
            email=email,
            session_id=session.id,
            valid_until=session.ends_at(idle),
        )

    async def _find_member(self, organisation: str, user_id: str, since: datetime) -> tuple[str, Role] | None:
        """Return address and role of a person who has been a member from `since` on."""
        document = await self._organisations.find_one(
            {"_id": organisation}, {"members": {"$elemMatch": {"user_id": user_id}}}
        )
        user = await self._users.find_one({"_id": user_id}, {"email": 1})
        if document is None or not document.get("members") or user is None:
            return None
        member = document["members"][0]
        return None if since < member["joined_at"] else (user["email"], member["role"])
