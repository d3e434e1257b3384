"""Logs whose session is not resolved, in the collection `logs`, and the collection `pending_ancestors`: the resolved
logs whose unresolved descendants are still to be looked for.

A pending ancestor is one document: `_id` as that of the log, `organisation`, and `session_id` if it has a session.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from pymongo import ASCENDING

from services.logging.session_resolution import LogKey, SessionAssignment
from services.logging.store import documents
from services.logging.store.bulk_writes import CHUNK_SIZE, chunks, insert_many
from shared import mongo
from shared.mongo import Database, Document

UNRESOLVED_BY_PARENT = "waiting_by_parent"
"""Name of the index of logs whose session is not resolved; their documents have `waiting`."""
_LINK_FIELDS = {"parent_id": 1, "project_id": 1, "created_at": 1}


class UnresolvedLog(NamedTuple):
    """A stored log whose session depends on a parent that was not known."""

    id: str
    parent_id: str
    project_id: str
    created_at: datetime


@mongo.raises_unavailable
class UnresolvedLogStore:
    """Unresolved logs and their pending ancestors. Every write is idempotent."""

    def __init__(self, database: Database) -> None:
        self._logs = database["logs"]
        self._ancestors = database["pending_ancestors"]

    async def prepare(self) -> None:
        """Create the indexes of pending ancestors; `LogStore` creates those of logs."""
        await self._ancestors.create_index([("organisation", ASCENDING)], name="by_organisation")

    async def has_any(self, organisation: str) -> bool:
        """Return whether any log of the organisation is unresolved: one cheap query."""
        unresolved = {"organisation": organisation, "waiting": True}
        return await self._logs.find_one(unresolved, {"_id": 1}, hint=UNRESOLVED_BY_PARENT) is not None

    async def list_all(self, organisation: str, limit: int) -> list[UnresolvedLog] | None:
        """Return every unresolved log of the organisation; None if there are `limit` or more."""
        unresolved = {"organisation": organisation, "waiting": True}
        if await self._logs.count_documents(unresolved, limit=limit, hint=UNRESOLVED_BY_PARENT) >= limit:
            return None
        # Not the server's size of a batch, 16 MB: the event loop gets a turn between batches.
        cursor = self._logs.find(
            unresolved, _LINK_FIELDS, limit=limit, batch_size=CHUNK_SIZE, hint=UNRESOLVED_BY_PARENT
        )
        return [_unresolved_log_of(document) async for document in cursor]

    async def list_children(self, organisation: str, parent_ids: Iterable[str], limit: int) -> list[UnresolvedLog]:
        """Return the unresolved logs with one of these parents, at most `limit`, ordered by `parent_id`."""
        children: list[UnresolvedLog] = []
        for chunk in chunks(sorted(parent_ids)):
            if len(children) == limit:
                break
            cursor = self._logs.find(
                {"organisation": organisation, "parent_id": {"$in": chunk}, "waiting": True},
                _LINK_FIELDS,
                sort=[("organisation", ASCENDING), ("parent_id", ASCENDING)],
                limit=limit - len(children),
                hint=UNRESOLVED_BY_PARENT,
            )
            children += [_unresolved_log_of(document) async for document in cursor]
        return children

    async def update_assignments(self, organisation: str, assignments: Mapping[str, SessionAssignment]) -> int:
        """Set the sessions of those of the logs, given by log id, that are unresolved; they are resolved then. Return
        how many were.
        """
        count = 0
        ids_by_assignment: dict[SessionAssignment, list[str]] = {}
        for log_id, assignment in assignments.items():
            ids_by_assignment.setdefault(assignment, []).append(documents.document_id(LogKey(organisation, log_id)))
        for assignment, ids in ids_by_assignment.items():
            update: Document = {"$unset": {"waiting": ""}}
            if assignment.session_id is not None:
                update["$set"] = {"session_id": assignment.session_id}
            for chunk in chunks(ids):
                result = await self._logs.update_many({"_id": {"$in": chunk}, "waiting": True}, update)
                count += result.modified_count
        return count

    async def insert_ancestors(self, organisation: str, assignments: Mapping[str, SessionAssignment]) -> None:
        """Insert pending ancestors, given by log id; those that exist stay."""
        new: Iterable[Document] = (
            {"_id": documents.document_id(LogKey(organisation, log_id)), "organisation": organisation}
            | ({} if assignment.session_id is None else {"session_id": assignment.session_id})
            for log_id, assignment in assignments.items()
        )
        for chunk in chunks(new):
            await insert_many(self._ancestors, chunk)

    async def list_organisations(self) -> list[str]:
        """Return the organisations that have pending ancestors."""
        return await self._ancestors.distinct("organisation")

    async def list_ancestors(self, organisation: str, limit: int) -> dict[str, SessionAssignment]:
        """Return some pending ancestors of an organisation, at most `limit`, by log id."""
        return {
            documents.key_from_id(document["_id"]).id: SessionAssignment(document.get("session_id"))
            async for document in self._ancestors.find({"organisation": organisation}, limit=limit)
        }

    async def delete_ancestors(self, organisation: str, log_ids: Collection[str]) -> None:
        """Delete pending ancestors."""
        for chunk in chunks(documents.document_id(LogKey(organisation, log_id)) for log_id in log_ids):
            await self._ancestors.delete_many({"_id": {"$in": chunk}})


def _unresolved_log_of(document: Document) -> UnresolvedLog:
    log_id = documents.key_from_id(document["_id"]).id
    return UnresolvedLog(log_id, document["parent_id"], document["project_id"], document["created_at"])
