"""Redirects of models, a document each."""

from datetime import UTC, datetime

from shared import mongo
from shared.contracts.routing import Redirect, Target


def _redirect(document: mongo.Document) -> Redirect:
    return Redirect.model_validate_json(document["content"])


@mongo.store
class RedirectStore:
    """The collection `redirects`; `_id` is organisation/provider/model."""

    def __init__(self, database: mongo.Database) -> None:
        self._redirects = database["redirects"]

    async def prepare(self) -> None:
        """Indexes."""
        await self._redirects.create_index([("organisation", 1), ("provider", 1), ("model", 1)], unique=True)

    async def all(self, organisation: str) -> list[Redirect]:
        """By provider and model."""
        found = self._redirects.find({"organisation": organisation}).sort([("provider", 1), ("model", 1)])
        return [_redirect(document) async for document in found]

    async def put(self, organisation: str, asked: Target, rest: dict[str, object]) -> Redirect:
        """Make or replace; `rest` are the other fields of a redirect."""
        redirect = Redirect.model_validate({"asked": asked, "changed_at": datetime.now(UTC), **rest})
        place = {"organisation": organisation, "provider": asked.provider, "model": asked.model}
        document = {"_id": _id(organisation, asked), **place, "content": redirect.model_dump_json()}
        await self._redirects.replace_one({"_id": document["_id"]}, document, upsert=True)
        return redirect

    async def delete(self, organisation: str, asked: Target) -> bool:
        """Whether there was one."""
        deleted = await self._redirects.delete_one({"_id": _id(organisation, asked)})
        return bool(deleted.deleted_count)


def _id(organisation: str, asked: Target) -> str:
    return f"{organisation}/{asked.provider}/{asked.model}"
