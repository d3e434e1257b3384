"""The collection `audit`: the audit log of every organisation. Documents are inserted, never updated and never deleted.

An entry is stored as JSON text, so it comes back exactly; the fields beside it are those that are searched by.
"""

from collections.abc import Sequence

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from shared.contracts.audit import AuditEntries, AuditEntry, AuditPosition, ListAuditEntries
from shared.mongo import Database, Document, raises_unavailable

_NEWEST_FIRST = [("at", DESCENDING), ("_id", DESCENDING)]
_FILTERS = ("user_id", "email", "key_id", "noun", "action")
"""Fields with an index of their own; without any of them the log is read by time."""
_DUPLICATE_KEY = 11000
"""MongoDB's error code."""
_MAX_MILLISECONDS = 4_000
"""How long a search may take; who asks waits 5 s."""


@raises_unavailable
class AuditStore:
    """Appends to the audit log, and reads it."""

    def __init__(self, database: Database) -> None:
        self._audit = database["audit"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._audit.create_index([("organisation", ASCENDING), *_NEWEST_FIRST], name="newest")
        for field in _FILTERS:
            keys = [("organisation", ASCENDING), (field, ASCENDING), *_NEWEST_FIRST]
            await self._audit.create_index(keys, name=field)
        keys = [("organisation", ASCENDING), ("object_kind", ASCENDING), ("object_id", ASCENDING), *_NEWEST_FIRST]
        await self._audit.create_index(keys, name="object")

    async def insert_many(self, entries: Sequence[AuditEntry]) -> None:
        """Insert entries; those that are there already, by their ids, stay as they are."""
        try:
            await self._audit.insert_many([_document(entry) for entry in entries], ordered=False)
        except BulkWriteError as error:
            if any(one["code"] != _DUPLICATE_KEY for one in error.details["writeErrors"]):
                raise

    async def list_page(self, query: ListAuditEntries) -> AuditEntries:
        """Return the entries that match the query, newest first, and where the page after them begins."""
        cursor = self._audit.find(
            _condition(query), {"content": 1}, sort=_NEWEST_FIRST, limit=query.limit + 1, max_time_ms=_MAX_MILLISECONDS
        )
        entries = [AuditEntry.model_validate_json(document["content"]) async for document in cursor]
        if len(entries) <= query.limit:
            return AuditEntries(entries=entries)
        last = entries[query.limit - 1]
        return AuditEntries(entries=entries[: query.limit], next=AuditPosition(at=last.at, id=last.id))


def _document(entry: AuditEntry) -> Document:
    return {
        "_id": entry.id,
        "organisation": entry.organisation,
        "at": entry.at,
        "user_id": entry.actor and entry.actor.user_id,
        "email": entry.actor and entry.actor.email,
        "key_id": entry.actor and entry.actor.key_id,
        "action": entry.action,
        "noun": entry.action.partition(".")[0],
        "object_kind": entry.object.kind,
        "object_id": entry.object.id,
        "content": entry.model_dump_json(exclude_none=True),
    }


def _condition(query: ListAuditEntries) -> Document:
    """Return the filter of a query; None is no filter."""
    is_noun = query.action is not None and "." not in query.action
    equal = {
        "user_id": query.user_id,
        "email": query.email,
        "key_id": query.key_id,
        "noun" if is_noun else "action": query.action,
        "object_kind": query.object_kind,
        "object_id": query.object_id,
    }
    condition: Document = {"organisation": query.organisation}
    condition |= {field: value for field, value in equal.items() if value is not None}
    times: Document = {}
    if query.start is not None:
        times["$gte"] = query.start
    if query.end is not None:
        times["$lt"] = query.end
    if query.before is not None:
        times["$lte"] = query.before.at
        older = [{"at": {"$lt": query.before.at}}, {"at": query.before.at, "_id": {"$lt": query.before.id}}]
        condition["$or"] = older
    return condition | ({"at": times} if times else {})
