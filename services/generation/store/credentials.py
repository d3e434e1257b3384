"""The collection `credentials`: the provider keys of organisations, encrypted, one document each."""

from collections.abc import AsyncIterator

from shared import mongo
from shared.contracts.generation.credentials import ProviderKey


def _provider_key(document: mongo.Document) -> ProviderKey:
    return ProviderKey(
        name=document["name"],
        tail=document["tail"],
        changed_at=document["changed_at"],
        changed_by=document["changed_by"],
    )


@mongo.raises_unavailable
class CredentialStore:
    """Reads and writes provider keys; `_id` is `<organisation>/<name>`."""

    def __init__(self, database: mongo.Database) -> None:
        self._credentials = database["credentials"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._credentials.create_index([("organisation", 1), ("name", 1)], unique=True)

    async def list_all(self, organisation: str) -> list[ProviderKey]:
        """Return the organisation's provider keys, sorted by name, without the keys themselves."""
        cursor = self._credentials.find({"organisation": organisation}, {"sealed": 0}).sort([("name", 1)])
        return [_provider_key(document) async for document in cursor]

    async def list_encrypted(self, organisation: str) -> list[str]:
        """Return the organisation's encrypted keys; each decrypts to `{name: key}`."""
        cursor = self._credentials.find({"organisation": organisation}, {"sealed": 1})
        return [document["sealed"] async for document in cursor]

    async def ciphertexts(self) -> AsyncIterator[tuple[str, str]]:
        """The encrypted keys of every organisation, by organisation/name."""
        async for document in self._credentials.find({}, {"sealed": 1}):
            yield document["_id"], document["sealed"]

    async def replace_ciphertext(self, credential_id: str, old: str, new: str) -> bool:
        """Store the same key encrypted anew; False if it was changed or removed meanwhile."""
        wanted = {"_id": credential_id, "sealed": old}
        written = await self._credentials.update_one(wanted, {"$set": {"sealed": new}})
        return bool(written.matched_count)

    async def upsert(
        self, organisation: str, key: ProviderKey, sealed: str, session: mongo.Session | None = None
    ) -> ProviderKey:
        """Insert or replace a key, and return it as it was given; `sealed` is the key itself, encrypted."""
        document = {"_id": f"{organisation}/{key.name}", "organisation": organisation, "sealed": sealed}
        document |= key.model_dump(include={"name", "tail", "changed_at", "changed_by"})
        await self._credentials.replace_one({"_id": document["_id"]}, document, upsert=True, session=session)
        return key

    async def delete(self, organisation: str, name: str, session: mongo.Session) -> bool:
        """Delete the key `name`; return False if there was none."""
        deleted = await self._credentials.delete_one({"_id": f"{organisation}/{name}"}, session=session)
        return bool(deleted.deleted_count)
