"""The organisation's tools. Settings are kept as JSON text, secrets encrypted."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from shared import mongo
from shared.contracts.logs import Page
from shared.contracts.tools import TOOL_SETTINGS, ToolSettings
from shared.errors import Conflict


@dataclass(frozen=True)
class StoredTool:
    """A tool with its secrets, which are encrypted."""

    id: str
    name: str
    settings: ToolSettings
    sealed: str | None = field(default=None, repr=False)
    """Secrets by name (shared/encryption.py)."""
    tails: dict[str, str] = field(default_factory=dict)
    """What may be shown of each secret, by its name."""
    revision: int = 1
    """Counts the changes."""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def _tool(document: mongo.Document) -> StoredTool:
    return StoredTool(
        id=document["_id"],
        name=document["name"],
        settings=TOOL_SETTINGS.validate_json(document["content"]),
        sealed=document["sealed"],
        tails=document["tails"],
        revision=document["revision"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
    )


def _document(tool: StoredTool) -> mongo.Document:
    return {
        "name": tool.name,
        "content": TOOL_SETTINGS.dump_json(tool.settings).decode(),
        "sealed": tool.sealed,
        "tails": tool.tails,
        "revision": tool.revision,
        "created_at": tool.created_at,
        "updated_at": tool.updated_at,
    }


def _taken(name: str) -> Conflict:
    return Conflict(f"There is a tool named {name!r} already; choose another name.")


@mongo.store
class ToolStore:
    """A collection; names are unique within an organisation."""

    def __init__(self, database: mongo.Database) -> None:
        self._tools = database["tools"]

    async def prepare(self) -> None:
        """The index that keeps names unique."""
        await self._tools.create_index([("organisation", 1), ("name", 1)], unique=True)

    async def create(self, organisation: str, tool: StoredTool) -> StoredTool:
        """Store it; what is stored under its id already stays as it is. Errors: Conflict (name)."""
        wanted = {"_id": tool.id, "organisation": organisation}
        try:
            await self._tools.update_one(wanted, {"$setOnInsert": _document(tool)}, upsert=True)
        except DuplicateKeyError:  # the name is another tool's, or a repeat at the same moment was first
            if stored := await self.get(organisation, tool.id):
                return stored
            raise _taken(tool.name) from None
        return await self.get(organisation, tool.id) or tool

    async def replace(self, organisation: str, tool: StoredTool) -> bool:
        """Store the next revision; False if it is not the next one any more. Errors: Conflict (name)."""
        wanted = {"_id": tool.id, "organisation": organisation, "revision": tool.revision - 1}
        try:
            written = await self._tools.update_one(wanted, {"$set": _document(tool)})
        except DuplicateKeyError:
            raise _taken(tool.name) from None
        return bool(written.matched_count)

    async def ciphertexts(self) -> AsyncIterator[tuple[str, str]]:
        """The encrypted secrets of every organisation's tools, by tool id."""
        async for document in self._tools.find({"sealed": {"$ne": None}}, {"sealed": 1}):
            yield document["_id"], document["sealed"]

    async def replace_ciphertext(self, tool_id: str, old: str, new: str) -> bool:
        """Store the same secrets encrypted anew; False if they were changed or removed meanwhile."""
        written = await self._tools.update_one({"_id": tool_id, "sealed": old}, {"$set": {"sealed": new}})
        return bool(written.matched_count)

    async def delete(self, organisation: str, tool_id: str) -> bool:
        """Whether there was one."""
        removed = await self._tools.delete_one({"_id": tool_id, "organisation": organisation})
        return bool(removed.deleted_count)

    async def get(self, organisation: str, tool_id: str) -> StoredTool | None:
        """One tool by id."""
        document = await self._tools.find_one({"_id": tool_id, "organisation": organisation})
        return _tool(document) if document else None

    async def named(self, organisation: str, name: str) -> StoredTool | None:
        """One tool by name."""
        document = await self._tools.find_one({"organisation": organisation, "name": name})
        return _tool(document) if document else None

    async def some(self, organisation: str, tool_ids: Sequence[str]) -> list[StoredTool]:
        """Those that exist, by name."""
        found = self._tools.find({"_id": {"$in": list(tool_ids)}, "organisation": organisation}).sort("name", 1)
        return [_tool(document) async for document in found]

    async def page(self, organisation: str, page: Page) -> tuple[list[StoredTool], int]:
        """A page of them, by name, and how many there are."""
        wanted = {"organisation": organisation}
        found = self._tools.find(wanted, sort=[("name", 1)], skip=page.number * page.size, limit=page.size)
        return [_tool(document) async for document in found], await self._tools.count_documents(wanted)
