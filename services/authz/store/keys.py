"""The collection `keys`: API keys, by the hash of their secret."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from pymongo import ASCENDING, DESCENDING, UpdateOne
from pymongo.errors import DuplicateKeyError

from services.authz.credentials.keys import StoredKey
from shared.errors import Conflict, NotFound
from shared.mongo import Database, Document, Session, raises_unavailable


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

    async def upsert(self, key: StoredKey, session: Session) -> StoredKey:
        """Insert a key, or replace the secret of the one with the same id, creator and name; return it.

        Raises Conflict if another key that is not revoked has the name.
        """
        document = key_document(key)
        repeat = {name: document[name] for name in ("_id", "organisation", "creator_id", "name", "revoked_at")}
        try:
            await self._keys.replace_one(repeat, document, upsert=True, session=session)
        except DuplicateKeyError:
            raise Conflict(f"There is an API key named {key.name!r} already. Choose another name.") from None
        return key

    async def list(self, organisation: str) -> list[StoredKey]:
        """Return all keys of an organisation, newest first, revoked ones included."""
        cursor = self._keys.find({"organisation": organisation}).sort([("created_at", DESCENDING), ("_id", DESCENDING)])
        return [_stored_key(document) async for document in cursor]

    async def revoke(self, organisation: str, key_id: str, at: datetime, session: Session) -> StoredKey | None:
        """Set the time of revocation and return the key; None if it is revoked already, which keeps its time.

        Raises NotFound if there is no such key.
        """
        query = {"_id": key_id, "organisation": organisation}
        change = {"$set": {"revoked_at": at}}
        document = await self._keys.find_one_and_update(query | {"revoked_at": None}, change, session=session)
        if not document and await self._keys.find_one(query, {"_id": 1}, session=session) is None:
            raise NotFound("There is no such API key in your organisation.")
        return _stored_key(document) if document else None

    async def revoke_of_user(self, organisation: str, user_id: str, at: datetime, session: Session) -> int:
        """Set the time of revocation of all keys that a user made in an organisation and that are not revoked; return
        their number."""
        query = {"organisation": organisation, "creator_id": user_id, "revoked_at": None}
        result = await self._keys.update_many(query, {"$set": {"revoked_at": at}}, session=session)
        return int(result.modified_count)

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
    fields = {name: value for name, value in document.items() if name not in {"_id", "projects"}}
    projects = document.get("projects")
    return StoredKey(id=document["_id"], projects=None if projects is None else tuple(projects), **fields)
