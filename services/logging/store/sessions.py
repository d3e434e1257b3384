"""The collection `sessions`: what listing sessions needs. Counts, inputs and outputs are computed from the logs."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime

from pymongo import ASCENDING, DESCENDING, DeleteOne, IndexModel, UpdateOne

from services.logging.sessions import SessionRecord
from services.logging.store.bulk_writes import CHUNK_SIZE, insert_many, update_many
from shared import mongo
from shared.contracts.logs import Page
from shared.mongo import Database, Document

_NEWEST_FIRST = [("created_at", DESCENDING), ("_id", DESCENDING)]
_MAX_CACHED = 20_000
"""Bounds the session records kept in memory: most logs after a session's first change nothing in its record."""
_REMOVALS = "removals"
"""`_id` of a document that counts removals of projects from sessions, for the caches of all replicas."""

ListSessionsWithLogs = Callable[[str, Collection[tuple[str, str]]], Awaitable[set[tuple[str, str]]]]


@mongo.raises_unavailable
class SessionStore:
    """Session records. Every write is idempotent and commutes with every other."""

    def __init__(self, database: Database) -> None:
        self._sessions = database["sessions"]
        self._cached: dict[str, SessionRecord] = {}
        """Records as this process has stored them, by `_id`; the one written longest ago first."""
        self._seen_removals = 0
        """How many removals there had been when `_cached` was last emptied for one."""

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._sessions.create_indexes(
            [
                IndexModel(
                    [("organisation", ASCENDING), ("project_ids", ASCENDING), *_NEWEST_FIRST],
                    name="project_by_time",
                )
            ]
        )

    async def upsert_sessions(self, records: Iterable[SessionRecord]) -> None:
        """Insert the sessions, or merge the records into those stored; `records` has each session once.

        Called after the logs of the sessions are stored.
        """
        records = list(records)
        if any(map(self._is_stored, records)):
            await self._forget_after_removals()
        changed = [record for record in records if not self._is_stored(record)]
        for start in range(0, len(changed), CHUNK_SIZE):
            chunk = changed[start : start + CHUNK_SIZE]
            outcome = await insert_many(self._sessions, [_document_of(record) for record in chunk])
            await update_many(self._sessions, [_merge_update(chunk[index]) for index in outcome.existing])
        for record in changed:
            self._cache(record)

    async def get_session(self, organisation: str, session_id: str) -> SessionRecord | None:
        """Return a session; None if there is none."""
        document = await self._sessions.find_one({"_id": f"{organisation}/{session_id}"})
        return None if document is None else _record_of(document)

    async def list_sessions(
        self, organisation: str, project_id: str, page: Page
    ) -> tuple[Sequence[SessionRecord], int]:
        """Return a page of the sessions with a log of the project, newest first, and the number of all of them."""
        matching = {"organisation": organisation, "project_ids": project_id}
        total = await self._sessions.count_documents(matching)
        skipped = page.number * page.size
        if page.size < 1 or not 0 <= skipped < total:
            return [], total
        cursor = self._sessions.find(matching, sort=_NEWEST_FIRST, skip=skipped, limit=page.size)
        return [_record_of(document) async for document in cursor], total

    async def remove_project(self, organisation: str, project_id: str) -> None:
        """Remove a project from its sessions, and delete the sessions that have no other project.

        No session is left without a project, whatever joins it meanwhile: such a session would never be deleted.
        """
        in_project = {"organisation": organisation, "project_ids": project_id}
        with_others = in_project | {"project_ids.1": {"$exists": True}}
        while await self._sessions.find_one(in_project, {"_id": 1}):
            await self._sessions.update_many(with_others, {"$pull": {"project_ids": project_id}})
            await self._sessions.delete_many({"organisation": organisation, "project_ids": [project_id]})
        for key in [key for key, record in self._cached.items() if project_id in record.project_ids]:
            del self._cached[key]

    async def remove_from_sessions(
        self, organisation: str, sessions: Collection[tuple[str, str]], list_with_logs: ListSessionsWithLogs
    ) -> None:
        """Remove projects, given as (session id, project id), from sessions in which they have no log any more, and
        delete the sessions that have no other project. Called after the logs are deleted.

        A log of the project may be stored at the same moment. Its writer looks for removals after it has stored the log
        and before it trusts what it has cached; here logs are looked for again after the removal. So one of both sees
        the other's write.
        """
        empty = set(sessions) - await list_with_logs(organisation, sessions)
        if not empty:
            return
        await self._sessions.update_one({"_id": _REMOVALS}, {"$inc": {"count": 1}}, upsert=True)
        await self._forget_after_removals()
        removals: list[UpdateOne | DeleteOne] = []
        for session_id, project_id in empty:
            in_project = {"_id": f"{organisation}/{session_id}", "project_ids": project_id}
            with_others = in_project | {"project_ids.1": {"$exists": True}}
            removals.append(UpdateOne(with_others, {"$pull": {"project_ids": project_id}}))
            removals.append(DeleteOne(in_project | {"project_ids": [project_id]}))
        await self._sessions.bulk_write(removals)
        for session_id, project_id in await list_with_logs(organisation, empty):
            record = SessionRecord(organisation, session_id, datetime.now(UTC), frozenset({project_id}))
            await update_many(self._sessions, [_merge_update(record)])

    async def count_removals(self) -> int:
        """Return how often projects were removed from sessions, by all replicas."""
        removals = await self._sessions.find_one({"_id": _REMOVALS})
        return removals["count"] if removals else 0

    async def _forget_after_removals(self) -> None:
        """Forget what is cached if projects were removed from sessions since the last call, by whichever replica."""
        if (count := await self.count_removals()) != self._seen_removals:
            self._seen_removals = count
            self._cached.clear()

    def _is_stored(self, record: SessionRecord) -> bool:
        cached = self._cached.get(_id_of(record))
        return cached is not None and cached.covers(record)

    def _cache(self, record: SessionRecord) -> None:
        cached = self._cached.pop(_id_of(record), None)
        self._cached[_id_of(record)] = record if cached is None else cached.merged_with(record)
        while len(self._cached) > _MAX_CACHED:
            del self._cached[next(iter(self._cached))]


def _id_of(record: SessionRecord) -> str:
    return f"{record.organisation}/{record.id}"


def _document_of(record: SessionRecord) -> Document:
    document: Document = {
        "_id": _id_of(record),
        "organisation": record.organisation,
        "project_ids": sorted(record.project_ids),
        "created_at": record.created_at,
    }
    if record.reference_id is not None:
        document["reference_id"] = record.reference_id
    return document


def _merge_update(record: SessionRecord) -> UpdateOne:
    smallest: Document = {"created_at": record.created_at}
    if record.reference_id is not None:
        smallest["reference_id"] = record.reference_id
    change: Document = {
        "$min": smallest,
        "$addToSet": {"project_ids": {"$each": sorted(record.project_ids)}},
        "$setOnInsert": {"organisation": record.organisation},
    }
    # The session existed a moment ago; if it was deleted with its project since, the upsert inserts it with this one.
    return UpdateOne({"_id": _id_of(record)}, change, upsert=True)


def _record_of(document: Document) -> SessionRecord:
    organisation, _, session_id = document["_id"].rpartition("/")
    return SessionRecord(
        organisation,
        session_id,
        document["created_at"],
        frozenset(document["project_ids"]),
        document.get("reference_id"),
    )
