"""The collection `tools`: the organisation's tools; settings are stored as JSON text, secrets encrypted."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from shared import mongo
from shared.blobs import TOKEN, digests_in
from shared.contracts.generation.tools import TOOL_SETTINGS, ToolSettings
from shared.contracts.logs import Page
from shared.errors import Conflict


@dataclass(frozen=True)
class StoredTool:
    """A tool as it is stored, with its secrets encrypted."""

    id: str
    name: str
    settings: ToolSettings
    sealed: str | None = field(default=None, repr=False)
    """Secrets by name, encrypted (shared/encryption.py); None: it has none."""
    tails: dict[str, str] = field(default_factory=dict)
    """The last characters of each secret that may be shown, by the secret's name."""
    revision: int = 1
    """Counts the changes, from 1."""
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


def _name_conflict(name: str) -> Conflict:
    return Conflict(f"There is a tool named {name!r} already; choose another name.")


@mongo.raises_unavailable
class ToolStore:
    """Reads and writes tools; names are unique within an organisation."""

    def __init__(self, database: mongo.Database) -> None:
        self._tools = database["tools"]

    async def prepare(self) -> None:
        """Create the index that keeps names unique."""
        await self._tools.create_index([("organisation", 1), ("name", 1)], unique=True)

    async def insert(self, organisation: str, tool: StoredTool, session: mongo.Session) -> bool:
        """Insert the tool; return False, with nothing stored, if there is one of this id already.

        Raises Conflict if another tool has the name.
        """
        query = {"_id": tool.id, "organisation": organisation}
        try:
            result = await self._tools.update_one(
                query, {"$setOnInsert": _document(tool)}, upsert=True, session=session
            )
        except DuplicateKeyError:  # the name is another tool's, or a repeat at the same moment was first
            if await self.get(organisation, tool.id):
                return False
            raise _name_conflict(tool.name) from None
        return result.upserted_id is not None

    async def replace(self, organisation: str, tool: StoredTool, session: mongo.Session) -> bool:
        """Replace revision `tool.revision - 1`; return False if that is not the stored revision any more.

        Raises Conflict if another tool has the name.
        """
        query = {"_id": tool.id, "organisation": organisation, "revision": tool.revision - 1}
        try:
            result = await self._tools.update_one(query, {"$set": _document(tool)}, session=session)
        except DuplicateKeyError:
            raise _name_conflict(tool.name) from None
        return bool(result.matched_count)

    async def ciphertexts(self) -> AsyncIterator[tuple[str, str]]:
        """The encrypted secrets of every organisation's tools, by tool id."""
        async for document in self._tools.find({"sealed": {"$ne": None}}, {"sealed": 1}):
            yield document["_id"], document["sealed"]

    async def replace_ciphertext(self, tool_id: str, old: str, new: str) -> bool:
        """Store the same secrets encrypted anew; False if they were changed or removed meanwhile."""
        written = await self._tools.update_one({"_id": tool_id, "sealed": old}, {"$set": {"sealed": new}})
        return bool(written.matched_count)

    async def list_named_blobs(self, organisation: str, digests: Sequence[str]) -> set[str]:
        """Return those of the blobs that a tool of the organisation names. Reads all of its tools."""
        named = {"organisation": organisation, "content": {"$regex": f"{TOKEN}({'|'.join(digests)})"}}
        return {digest async for document in self._tools.find(named) for digest in digests_in(document["content"])}

    async def delete(self, organisation: str, tool_id: str, session: mongo.Session) -> bool:
        """Delete the tool; return False if there was none."""
        result = await self._tools.delete_one({"_id": tool_id, "organisation": organisation}, session=session)
        return bool(result.deleted_count)

    async def get(self, organisation: str, tool_id: str) -> StoredTool | None:
        """Return the tool with this id; None if there is none."""
        document = await self._tools.find_one({"_id": tool_id, "organisation": organisation})
        return _tool(document) if document else None

    async def find_by_name(self, organisation: str, name: str) -> StoredTool | None:
        """Return the tool of this name; None if there is none."""
        document = await self._tools.find_one({"organisation": organisation, "name": name})
        return _tool(document) if document else None

    async def get_many(self, organisation: str, tool_ids: Sequence[str]) -> list[StoredTool]:
        """Return the tools with these ids, sorted by name; ids without a tool are left out."""
        cursor = self._tools.find({"_id": {"$in": list(tool_ids)}, "organisation": organisation}).sort("name", 1)
        return [_tool(document) async for document in cursor]

    async def list_page(self, organisation: str, page: Page) -> tuple[list[StoredTool], int]:
        """Return a page of the organisation's tools, sorted by name, and the total count."""
        query = {"organisation": organisation}
        cursor = self._tools.find(query, sort=[("name", 1)], skip=page.number * page.size, limit=page.size)
        return [_tool(document) async for document in cursor], await self._tools.count_documents(query)
