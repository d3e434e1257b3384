"""The collections of authz: `organisations` (with their members), `users`, `keys`, `installation`.

Members are part of their organisation's document, which MongoDB updates atomically; so one of them always is an Admin.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pymongo import ASCENDING, DESCENDING, UpdateOne
from pymongo.errors import DuplicateKeyError

from services.authz.access import lower_role
from services.authz.keys import StoredKey
from services.authz.organisations import Organisation
from shared import ids
from shared.contracts.access import Member
from shared.contracts.principal import Principal
from shared.errors import Conflict, NotFound, Unavailable
from shared.mongo import Database, raises_unavailable

_INSTALLATION = "installation"
"""`_id` of the only document of the collection `installation`."""


class Installation(NamedTuple):
    """What all replicas of an installation agree on."""

    id: str
    created_at: datetime


@raises_unavailable
class Store:
    """All collections of authz."""

    def __init__(self, database: Database) -> None:
        self._organisations = database["organisations"]
        self._users = database["users"]
        self._keys = database["keys"]
        self._installation = database["installation"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._organisations.create_index([("members.user_id", ASCENDING)], name="members")
        await self._users.create_index([("email", ASCENDING)], name="email", unique=True)
        await self._keys.create_index([("hash", ASCENDING)], name="hash", unique=True)
        await self._keys.create_index([("organisation", ASCENDING), ("created_at", DESCENDING)], name="newest")
        await self._keys.create_index(
            [("organisation", ASCENDING), ("name", ASCENDING)],
            name="names in use",
            unique=True,
            partialFilterExpression={"revoked_at": {"$type": "null"}},
        )

    async def find_principal(self, key_hash: str) -> Principal | None:
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

    async def get_organisation(self, organisation: str) -> Organisation:
        """Return an organisation. Raises NotFound if there is none with this id."""
        document = await self._organisations.find_one({"_id": organisation})
        if document is None:
            raise NotFound("There is no such organisation.")
        return Organisation(
            id=document["_id"],
            roles={member["user_id"]: member["role"] for member in document["members"]},
            revision=document["revision"],
        )

    async def update_role(self, organisation: Organisation, user_id: str) -> bool:
        """Set a member's role; return False without a change unless the stored revision is the one before this one."""
        result = await self._organisations.update_one(
            {"_id": organisation.id, "revision": organisation.revision - 1, "members.user_id": user_id},
            {"$set": {"members.$.role": organisation.roles[user_id], "revision": organisation.revision}},
        )
        return result.modified_count == 1

    async def remove_member(self, organisation: Organisation, user_id: str) -> bool:
        """Remove a member; return False without a change unless the stored revision is the one before this one."""
        result = await self._organisations.update_one(
            {"_id": organisation.id, "revision": organisation.revision - 1, "members.user_id": user_id},
            {"$pull": {"members": {"user_id": user_id}}, "$set": {"revision": organisation.revision}},
        )
        return result.modified_count == 1

    async def get_emails(self, user_ids: Iterable[str]) -> dict[str, str]:
        """Return email addresses by user id, of the users that exist."""
        cursor = self._users.find({"_id": {"$in": list(user_ids)}}, {"email": 1})
        return {user["_id"]: user["email"] async for user in cursor}

    async def list_members(self, organisation: str) -> list[Member]:
        """Return the members of an organisation by email address. Raises NotFound if there is no such organisation."""
        document = await self._organisations.find_one({"_id": organisation}, {"members": 1})
        if document is None:
            raise NotFound("There is no such organisation.")
        members = {member["user_id"]: member for member in document["members"]}
        cursor = self._users.find({"_id": {"$in": list(members)}}, {"email": 1, "full_name": 1}).sort(
            "email", ASCENDING
        )
        return [
            Member(
                user_id=user["_id"],
                email=user["email"],
                role=members[user["_id"]]["role"],
                full_name=user.get("full_name"),
                joined_at=members[user["_id"]]["joined_at"],
            )
            async for user in cursor
        ]

    async def upsert_key(self, key: StoredKey) -> None:
        """Insert a key, or replace the secret of the one with the same id, creator and name.

        Raises Conflict if another key that is not revoked has the name.
        """
        document = _key_document(key)
        repeat = {name: document[name] for name in ("_id", "organisation", "creator_id", "name", "revoked_at")}
        try:
            await self._keys.replace_one(repeat, document, upsert=True)
        except DuplicateKeyError:
            raise Conflict(f"There is an API key named {key.name!r} already. Choose another name.") from None

    async def list_keys(self, organisation: str) -> list[StoredKey]:
        """Return all keys of an organisation, newest first, revoked ones included."""
        cursor = self._keys.find({"organisation": organisation}).sort([("created_at", DESCENDING), ("_id", DESCENDING)])
        return [_stored_key(document) async for document in cursor]

    async def revoke_key(self, organisation: str, key_id: str, at: datetime) -> None:
        """Set the time of revocation; a revoked key keeps its time. Raises NotFound if there is no such key."""
        result = await self._keys.update_one(
            {"_id": key_id, "organisation": organisation}, [{"$set": {"revoked_at": {"$ifNull": ["$revoked_at", at]}}}]
        )
        if not result.matched_count:
            raise NotFound("There is no such API key in your organisation.")

    async def revoke_keys_of(self, organisation: str, user_id: str, at: datetime) -> None:
        """Set the time of revocation of all keys that a user made in an organisation and that are not revoked."""
        await self._keys.update_many(
            {"organisation": organisation, "creator_id": user_id, "revoked_at": None}, {"$set": {"revoked_at": at}}
        )

    async def set_last_used(self, times: Mapping[str, datetime]) -> None:
        """Set when keys were used last, by their ids; never to an earlier time."""
        updates = [UpdateOne({"_id": key_id}, {"$max": {"last_used_at": time}}) for key_id, time in times.items()]
        if updates:
            await self._keys.bulk_write(updates, ordered=False)

    async def has_organisation(self) -> bool:
        """Return whether there is any organisation."""
        return await self._organisations.find_one({}, {"_id": 1}) is not None

    async def is_key_active(self, key_hash: str) -> bool:
        """Return whether there is a key with this hash that is not revoked."""
        return await self._keys.find_one({"hash": key_hash, "revoked_at": None}, {"_id": 1}) is not None

    async def get_installation(self) -> Installation:
        """Return the installation's id and time, made once for all replicas; the first objects are derived from them."""
        proposed = {"id": ids.mint("inst"), "created_at": datetime.now(UTC)}
        with contextlib.suppress(DuplicateKeyError):  # another replica inserted it at the same moment
            await self._installation.update_one(
                {"_id": _INSTALLATION},
                [{"$set": {name: {"$ifNull": [f"${name}", value]} for name, value in proposed.items()}}],
                upsert=True,
            )
        document = await self._installation.find_one({"_id": _INSTALLATION})
        if document is None:
            raise Unavailable("The installation's id vanished while it was read.")
        return Installation(document["id"], document["created_at"])

    async def insert_first_organisation(
        self, organisation: Organisation, key: StoredKey, email: str, password_hash: str
    ) -> None:
        """Upsert the first Admin and their key, then the organisation: if that exists, so do they.

        Ids are derived, so replicas that start at once, or one that was killed and starts again, write the same.
        """
        user = {"email": email, "password_hash": password_hash}
        await _upsert(self._users, key.creator_id, user, {"created_at": key.created_at})
        await _upsert(self._keys, key.id, _without_id(_key_document(key)), {})
        await _upsert(
            self._organisations,
            organisation.id,
            {},
            {
                "members": [
                    {"user_id": user_id, "role": role, "joined_at": key.created_at}
                    for user_id, role in organisation.roles.items()
                ],
                "revision": organisation.revision,
                "created_at": key.created_at,
            },
        )


async def _upsert(
    collection: Any,  # noqa: ANN401
    document_id: str,
    fields: dict[str, Any],
    insert_only_fields: dict[str, Any],
) -> None:
    """Set `fields`, and `insert_only_fields` if the document is new."""
    operators = {"$set": fields, "$setOnInsert": insert_only_fields}
    update = {operator: values for operator, values in operators.items() if values}
    try:
        await collection.update_one({"_id": document_id}, update, upsert=True)
    except DuplicateKeyError:  # another replica inserted it at the same moment
        await collection.update_one({"_id": document_id}, update)


def _key_document(key: StoredKey) -> dict[str, Any]:
    fields = asdict(key)
    return {"_id": fields.pop("id"), **fields}


def _without_id(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "_id"}


def _stored_key(document: dict[str, Any]) -> StoredKey:
    return StoredKey(id=document["_id"], **_without_id(document))
