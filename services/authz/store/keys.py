"""The collection `keys`: API keys, by the hash of their secret."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from pymongo import ASCENDING, DESCENDING, UpdateOne
from pymongo.errors import DuplicateKeyError

from services.authz.credentials.keys import StoredKey
from shared.errors import Conflict, NotFound
from shared.mongo import Database, Document, raises_unavailable


@raises_unavailable
class KeyStore:
    """Reads and writes API keys."""

    def __init__(self, database: Database) -> None:
        self._keys = database["keys"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._keys.create_index([("hash", ASCENDING)], name="hash", unique=True)
        await self._keys.create_index([("organisation", ASCENDING), ("created_at", DESCENDING)], name="newest")
        await self._keys.create_index(
            [("organisation", ASCENDING), ("name", ASCENDING)],
            name="names in use",
            unique=True,
            partialFilterExpression={"revoked_at": {"$type": "null"}},
        )

    async def upsert(self, key: StoredKey) -> None:
        """Insert a key, or replace the secret of the one with the same id, creator and name.

        Raises Conflict if another key that is not revoked has the name.
        """
        document = key_document(key)
        repeat = {name: document[name] for name in ("_id", "organisation", "creator_id", "name", "revoked_at")}
        try:
            await self._keys.replace_one(repeat, document, upsert=True)
        except DuplicateKeyError:
            raise Conflict(f"There is an API key named {key.name!r} already. Choose another name.") from None

    async def list(self, organisation: str) -> list[StoredKey]:
        """Return all keys of an organisation, newest first, revoked ones included."""
        cursor = self._keys.find({"organisation": organisation}).sort([("created_at", DESCENDING), ("_id", DESCENDING)])
        return [_stored_key(document) async for document in cursor]

    async def revoke(self, organisation: str, key_id: str, at: datetime) -> None:
        """Set the time of revocation; a revoked key keeps its time. Raises NotFound if there is no such key."""
        result = await self._keys.update_one(
            {"_id": key_id, "organisation": organisation}, [{"$set": {"revoked_at": {"$ifNull": ["$revoked_at", at]}}}]
        )
        if not result.matched_count:
            raise NotFound("There is no such API key in your organisation.")

    async def revoke_of_user(self, organisation: str, user_id: str, at: datetime) -> None:
        """Set the time of revocation of all keys that a user made in an organisation and that are not revoked."""
        await self._keys.update_many(
            {"organisation": organisation, "creator_id": user_id, "revoked_at": None}, {"$set": {"revoked_at": at}}
        )

    async def set_last_used(self, times: Mapping[str, datetime]) -> None:
        """Set when keys were used last, by their ids; never to an earlier time."""
        updates = [UpdateOne({"_id": key_id}, {"$max": {"last_used_at": time}}) for key_id, time in times.items()]
        if updates:
            await self._keys.bulk_write(updates, ordered=False)

    async def is_active(self, key_hash: str) -> bool:
        """Return whether there is a key with this hash that is not revoked."""
        return await self._keys.find_one({"hash": key_hash, "revoked_at": None}, {"_id": 1}) is not None


def key_document(key: StoredKey) -> Document:
    """Return the document of a key."""
    fields = asdict(key)
    return {"_id": fields.pop("id"), **fields}


def _stored_key(document: Document) -> StoredKey:
    return StoredKey(id=document["_id"], **{name: value for name, value in document.items() if name != "_id"})
