"""Provider keys, encrypted, a document each."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from shared import mongo
from shared.contracts.credentials import ProviderKey


def _key(document: mongo.Document) -> ProviderKey:
    return ProviderKey(
        name=document["name"],
        tail=document["tail"],
        changed_at=document["changed_at"],
        changed_by=document["changed_by"],
    )


@mongo.store
class CredentialStore:
    """The collection `credentials`; `_id` is organisation/name."""

    def __init__(self, database: mongo.Database) -> None:
        self._credentials = database["credentials"]

    async def prepare(self) -> None:
        """Indexes."""
        await self._credentials.create_index([("organisation", 1), ("name", 1)], unique=True)

    async def all(self, organisation: str) -> list[ProviderKey]:
        """By name, without the keys themselves."""
        found = self._credentials.find({"organisation": organisation}, {"sealed": 0}).sort([("name", 1)])
        return [_key(document) async for document in found]

    async def sealed(self, organisation: str) -> list[str]:
        """The encrypted keys, each `{name: key}`."""
        found = self._credentials.find({"organisation": organisation}, {"sealed": 1})
        return [document["sealed"] async for document in found]

    async def ciphertexts(self) -> AsyncIterator[tuple[str, str]]:
        """The encrypted keys of every organisation, by organisation/name."""
        async for document in self._credentials.find({}, {"sealed": 1}):
            yield document["_id"], document["sealed"]

    async def replace_ciphertext(self, credential_id: str, old: str, new: str) -> bool:
        """Store the same key encrypted anew; False if it was changed or removed meanwhile."""
        wanted = {"_id": credential_id, "sealed": old}
        written = await self._credentials.update_one(wanted, {"$set": {"sealed": new}})
        return bool(written.matched_count)

    async def put(self, organisation: str, name: str, tail: str, sealed: str, by: str) -> ProviderKey:
        """Make or replace."""
        document = {
            "_id": f"{organisation}/{name}",
            "organisation": organisation,
            "name": name,
            "tail": tail,
            "sealed": sealed,
            "changed_at": datetime.now(UTC),
            "changed_by": by,
        }
        await self._credentials.replace_one({"_id": document["_id"]}, document, upsert=True)
        return _key(document)

    async def delete(self, organisation: str, name: str) -> bool:
        """Whether there was one."""
        deleted = await self._credentials.delete_one({"_id": f"{organisation}/{name}"})
        return bool(deleted.deleted_count)
