"""Deletes documents of the collection `logs`: a log that a caller deletes leaves a tombstone, a deleted project leaves
nothing of its logs."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from services.logging.decoding import Entry
from services.logging.session_resolution import LogKey
from services.logging.store import documents
from services.logging.store.bulk_writes import CHUNK_SIZE, chunks, upsert_many
from shared import mongo
from shared.contracts.logs import LogDeleted
from shared.mongo import Database

_QUERIES_AT_ONCE = 50


class DeletedLog(NamedTuple):
    """A log that was stored when it was deleted, or a stub with blobs."""

    key: LogKey
    project_id: str | None
    """None of a stub."""
    session_id: str | None
    blobs: list[str]
    """Digests."""


@mongo.raises_unavailable
class LogDeletionStore:
    """Deletions of logs, and what has to be known of the logs around them."""

    def __init__(self, database: Database) -> None:
        self._logs = database["logs"]

    async def delete_logs(self, entries: Sequence[Entry[LogDeleted]]) -> list[DeletedLog]:
        """Replace logs, also those that are not stored, by tombstones; return the logs that these entries deleted, and
        the stubs that had blobs.

        A repeat returns the same again.
        """
        ids = [documents.document_id(LogKey(entry.record.organisation, entry.record.id)) for entry in entries]
        await upsert_many(self._logs, zip(ids, map(documents.deletion_pipeline, entries), strict=True))
        deleted: list[DeletedLog] = []
        positions = [entry.position for entry in entries]
        for chunk in chunks(ids):
            condition = {
                "_id": {"$in": chunk},
                "deleted.by": {"$in": positions},
                "$or": [{"deleted.project_id": {"$exists": True}}, {"deleted.blobs": {"$exists": True}}],
            }
            cursor = self._logs.find(condition, {"deleted": 1})
            deleted += [_deleted_log_of(document) async for document in cursor]
        return deleted

    async def list_tombstones(self, organisation: str, log_ids: Iterable[str]) -> list[str]:
        """Return those of the ids whose log is deleted."""
        ids = [documents.document_id(LogKey(organisation, log_id)) for log_id in log_ids]
        cursor = self._logs.find({"_id": {"$in": ids}, "deleted": {"$exists": True}}, {"_id": 1})
        return [documents.key_from_id(document["_id"]).id async for document in cursor]

    async def list_sessions_with_logs(
        self, organisation: str, sessions: Collection[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        """Return those of the (session id, project id) that have a log."""
        found: set[tuple[str, str]] = set()
        pending = list(sessions)
        while pending:
            some, pending = pending[:_QUERIES_AT_ONCE], pending[_QUERIES_AT_ONCE:]
            logs = await asyncio.gather(
                *(
                    self._logs.find_one(
                        {"organisation": organisation, "session_id": session_id, "project_id": project_id}, {"_id": 1}
                    )
                    for session_id, project_id in some
                )
            )
            found |= {session for session, log in zip(some, logs, strict=True) if log}
        return found

    async def list_project_logs(self, organisation: str, project_id: str) -> dict[str, list[str]]:
        """Return some of the logs of a project, at most `CHUNK_SIZE`: by `_id` the digests of their blobs."""
        cursor = self._logs.find(
            {"organisation": organisation, "project_id": project_id}, {"blobs": 1}, limit=CHUNK_SIZE
        )
        return {document["_id"]: document.get("blobs", []) async for document in cursor}

    async def delete_documents(self, ids: Iterable[str]) -> None:
        """Delete the documents with these `_id`s."""
        await self._logs.delete_many({"_id": {"$in": list(ids)}})

    async def list_held_blobs(self, organisation: str, digests: Sequence[str]) -> set[str]:
        """Return those of the blobs that a log, also one still to come, names."""
        held = set()
        for digest in digests:
            if await self._logs.find_one({"organisation": organisation, "blobs": digest}, {"_id": 1}, hint="blobs"):
                held.add(digest)
        return held

    async def delete_stubs(self, keys: Iterable[LogKey]) -> None:
        """Delete those of the documents that are stubs."""
        ids = [documents.document_id(key) for key in keys]
        not_stored = {"recorded": {"$exists": False}, "deleted": {"$exists": False}}
        await self._logs.delete_many({"_id": {"$in": ids}} | not_stored)


def _deleted_log_of(document: mongo.Document) -> DeletedLog:
    deleted = document["deleted"]
    return DeletedLog(
        documents.key_from_id(document["_id"]),
        deleted.get("project_id"),
        deleted.get("session_id"),
        deleted.get("blobs", []),
    )
