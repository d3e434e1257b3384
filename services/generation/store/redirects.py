"""The collection `redirects`: redirects of models, one document each."""

from shared import mongo
from shared.contracts.generation.routing import Redirect, Target


def _redirect(document: mongo.Document) -> Redirect:
    return Redirect.model_validate_json(document["content"])


@mongo.raises_unavailable
class RedirectStore:
    """Reads and writes redirects; `_id` is `<organisation>/<provider>/<model>` of the redirected model."""

    def __init__(self, database: mongo.Database) -> None:
        self._redirects = database["redirects"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._redirects.create_index([("organisation", 1), ("provider", 1), ("model", 1)], unique=True)

    async def list_all(self, organisation: str) -> list[Redirect]:
        """Return the organisation's redirects, sorted by provider and model."""
        cursor = self._redirects.find({"organisation": organisation}).sort([("provider", 1), ("model", 1)])
        return [_redirect(document) async for document in cursor]

    async def upsert(self, organisation: str, redirect: Redirect, session: mongo.Session) -> Redirect:
        """Insert or replace the redirect of its model; return it as it was given."""
        asked = redirect.asked
        key = {"organisation": organisation, "provider": asked.provider, "model": asked.model}
        document = {"_id": _id(organisation, asked), **key, "content": redirect.model_dump_json()}
        await self._redirects.replace_one({"_id": document["_id"]}, document, upsert=True, session=session)
        return redirect

    async def delete(self, organisation: str, asked: Target, session: mongo.Session) -> bool:
        """Delete the redirect of `asked`; return False if there was none."""
        deleted = await self._redirects.delete_one({"_id": _id(organisation, asked)}, session=session)
        return bool(deleted.deleted_count)


def _id(organisation: str, asked: Target) -> str:
    return f"{organisation}/{asked.provider}/{asked.model}"
