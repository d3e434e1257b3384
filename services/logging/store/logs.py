"""The collection `logs`: one document a log, with its session, updates and feedback.

Every `_id` and every index begins with the organisation.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Literal, NamedTuple

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from services.logging.decoding import Entry
from services.logging.session_resolution import LogKey, SessionAssignment, key_of
from services.logging.sessions import SessionStats
from services.logging.store import documents
from services.logging.store.bulk_writes import CHUNK_SIZE, insert_many, update_many
from services.logging.store.queries import NEWEST_FIRST, excluding_projects, search_filter, sort_order
from services.logging.store.session_stats import stats_of, stats_pipeline
from services.logging.trees import TreeLog
from shared import mongo
from shared.contracts.logs import (
    ConfigUse,
    FeedbackGiven,
    LogFeedback,
    LogRecord,
    Logs,
    LogUpdate,
    SearchLogs,
    StoredLog,
)
from shared.mongo import Database, Document

_UNRESOLVED_BY_PARENT = "waiting_by_parent"
"""Name of the index of logs whose session is not resolved; their documents have `waiting`."""
UseById = dict[str, ConfigUse]


class InsertResult(NamedTuple):
    """Which new logs were not stored."""

    rejected: dict[LogKey, str]
    """Can never be stored, with the reason."""
    duplicates: set[LogKey]
    """A log of this id was accepted earlier, and stays."""


class UnresolvedLog(NamedTuple):
    """A stored log whose session depends on a parent that was not known."""

    id: str
    parent_id: str
    project_id: str
    created_at: datetime


@mongo.raises_unavailable
class LogStore:
    """Logs. Writes may come repeatedly and in any order: a log is one document all the same."""

    def __init__(self, database: Database) -> None:
        self._logs = database["logs"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._logs.create_indexes(
            [
                IndexModel(
                    [("organisation", ASCENDING), ("project_id", ASCENDING), *NEWEST_FIRST], name="project_by_time"
                ),
                IndexModel(
                    [("organisation", ASCENDING), ("config_id", ASCENDING), ("created_at", DESCENDING)],
                    name="config_by_time",
                ),
                IndexModel(
                    [("organisation", ASCENDING), ("session_id", ASCENDING), *NEWEST_FIRST],
                    name="session_by_time",
                    partialFilterExpression={"session_id": {"$exists": True}},
                ),
                IndexModel(
                    [("organisation", ASCENDING), ("parent_id", ASCENDING)],
                    name=_UNRESOLVED_BY_PARENT,
                    partialFilterExpression={"waiting": True},
                ),
            ]
        )

    async def insert_logs(
        self, entries: Sequence[Entry[LogRecord]], assignments: Mapping[LogKey, SessionAssignment]
    ) -> InsertResult:
        """Store new logs. Of several with one id the one accepted first is kept, also when it is stored later."""
        result = InsertResult({}, set())
        encoded: list[Document] = []
        for entry in entries:
            key = key_of(entry.record)
            try:
                encoded.append(documents.document_of(entry, assignments[key]))
            except (OverflowError, ValueError) as error:
                result.rejected[key] = f"cannot be encoded: {error}"
        for chunk in _chunks(encoded):
            outcome = await insert_many(self._logs, chunk)
            for index, reason in outcome.rejected.items():
                result.rejected[documents.key_from_id(chunk[index]["_id"])] = reason
            if outcome.existing:
                result.duplicates.update(await self._replace_later([chunk[index] for index in outcome.existing]))
        return result

    async def _replace_later(self, new: Sequence[Document]) -> list[LogKey]:
        """Replace stubs and logs accepted later by the `new` documents; return those that an earlier log keeps out."""
        ids = [document["_id"] for document in new]
        stored_positions = {
            document["_id"]: document.get("recorded")
            async for document in self._logs.find({"_id": {"$in": ids}}, {"recorded": 1})
        }
        duplicates: list[LogKey] = []
        replacements: list[UpdateOne] = []
        for document in new:
            stored_position, position = stored_positions.get(document["_id"]), document["recorded"]
            if stored_position is None or stored_position > position:
                replaceable = [{"recorded": {"$exists": False}}, {"recorded": {"$gt": position}}]
                replacements.append(
                    UpdateOne({"_id": document["_id"], "$or": replaceable}, documents.replacement_pipeline(document))
                )
            elif stored_position < position:
                duplicates.append(documents.key_from_id(document["_id"]))
        await update_many(self._logs, replacements)
        return duplicates

    async def update_logs(self, entries: Sequence[Entry[LogUpdate]]) -> dict[int, str]:
        """Apply updates, making stubs of logs that are not stored; return by index the reasons of rejected updates."""
        return await self._upsert(
            (LogKey(entry.record.organisation, entry.record.id), documents.update_pipeline(entry)) for entry in entries
        )

    async def upsert_feedback(self, entries: Sequence[Entry[FeedbackGiven]]) -> dict[int, str]:
        """Add feedback, making stubs of logs that are not stored; return by index the reasons of rejected feedback.

        All feedback on one log is added in one update; if that is rejected, its feedback is added one by one.
        """
        by_log: dict[LogKey, list[int]] = {}
        for index, entry in enumerate(entries):
            by_log.setdefault(LogKey(entry.record.organisation, entry.record.log_id), []).append(index)
        logs = list(by_log.items())
        rejected_logs = await self._upsert(
            (key, documents.feedback_pipeline([entries[index] for index in indexes])) for key, indexes in logs
        )
        retries = [
            (logs[number][0], index, reason) for number, reason in rejected_logs.items() for index in logs[number][1]
        ]
        if len(retries) == len(rejected_logs):
            return {index: reason for _, index, reason in retries}
        rejected = await self._upsert((key, documents.feedback_pipeline([entries[index]])) for key, index, _ in retries)
        return {retries[number][1]: reason for number, reason in rejected.items()}

    async def _upsert(self, updates: Iterator[tuple[LogKey, list[Document]]]) -> dict[int, str]:
        """Apply an update pipeline to each log, or to a new stub; return by index the reasons of rejected ones."""
        rejected: dict[int, str] = {}
        for number, chunk in enumerate(_chunks(updates)):
            upserts = [UpdateOne({"_id": documents.document_id(key)}, update, upsert=True) for key, update in chunk]
            for index, reason in (await update_many(self._logs, upserts)).items():
                rejected[number * CHUNK_SIZE + index] = reason
        return rejected

    async def get_many_stored_keys(self, keys: Iterable[LogKey]) -> set[LogKey]:
        """Return those of `keys` whose log is stored."""
        condition = {"_id": {"$in": [documents.document_id(key) for key in keys]}, "recorded": {"$exists": True}}
        return {documents.key_from_id(document["_id"]) async for document in self._logs.find(condition, {"_id": 1})}

    async def get_many_assignments(self, keys: Iterable[LogKey]) -> dict[LogKey, SessionAssignment]:
        """Return the session assignments of those of the logs that are stored and resolved."""
        ids = [documents.document_id(key) for key in keys]
        if not ids:
            return {}
        condition = {"_id": {"$in": ids}, "recorded": {"$exists": True}, "waiting": {"$exists": False}}
        return {
            documents.key_from_id(document["_id"]): SessionAssignment(document.get("session_id"))
            async for document in self._logs.find(condition, {"session_id": 1})
        }

    async def list_unresolved_children(self, organisation: str, parent_ids: Iterable[str]) -> list[UnresolvedLog]:
        """Return the unresolved logs with one of these parents. One cheap query if the organisation has none at all."""
        children: list[UnresolvedLog] = []
        unresolved = {"organisation": organisation, "waiting": True}
        if not await self._logs.find_one(unresolved, {"_id": 1}, hint=_UNRESOLVED_BY_PARENT):
            return children
        for chunk in _chunks(parent_ids):
            condition = {"organisation": organisation, "parent_id": {"$in": chunk}, "waiting": True}
            fields = {"parent_id": 1, "project_id": 1, "created_at": 1}
            async for document in self._logs.find(condition, fields, hint=_UNRESOLVED_BY_PARENT):
                log_id = documents.key_from_id(document["_id"]).id
                children.append(
                    UnresolvedLog(log_id, document["parent_id"], document["project_id"], document["created_at"])
                )
        return children

    async def update_assignments(self, organisation: str, assignments: Mapping[str, SessionAssignment]) -> None:
        """Set the sessions of unresolved logs, given by log id; they are resolved then."""
        ids_by_assignment: dict[SessionAssignment, list[str]] = {}
        for log_id, assignment in assignments.items():
            ids_by_assignment.setdefault(assignment, []).append(documents.document_id(LogKey(organisation, log_id)))
        for assignment, ids in ids_by_assignment.items():
            update: Document = {"$unset": {"waiting": ""}}
            if assignment.session_id is not None:
                update["$set"] = {"session_id": assignment.session_id}
            for chunk in _chunks(ids):
                await self._logs.update_many({"_id": {"$in": chunk}, "waiting": True}, update)

    async def get_log(self, organisation: str, log_id: str) -> StoredLog | None:
        """Return a log; None if it is not stored."""
        key = LogKey(organisation, log_id)
        document = await self._logs.find_one({"_id": documents.document_id(key), "recorded": {"$exists": True}})
        return None if document is None else documents.log_of(document)

    async def list_feedback(self, organisation: str, log_ids: Sequence[str], types: Sequence[str]) -> list[LogFeedback]:
        """Return the project of each log that is stored, and its feedback in effect of these types."""
        ids = [documents.document_id(LogKey(organisation, log_id)) for log_id in log_ids]
        fields = {"project_id": 1} | ({"feedback": 1, "said": 1} if types else {})
        return [
            LogFeedback(
                log_id=documents.key_from_id(document["_id"]).id,
                project_id=document["project_id"],
                feedback=[feedback for feedback in documents.feedback_of(document) if feedback.type in types],
            )
            async for document in self._logs.find({"_id": {"$in": ids}, "recorded": {"$exists": True}}, fields)
        ]

    async def search_logs(self, organisation: str, query: SearchLogs) -> Logs:
        """Return a page of the logs of a project that match, and the number of all that match."""
        matching = search_filter(organisation, query)
        total = await self._logs.count_documents(matching)
        size, skipped = query.page.size, query.page.number * query.page.size
        if size < 1 or not 0 <= skipped < total:
            return Logs(logs=[], total=total)
        cursor = self._logs.find(matching, sort=sort_order(query.sort), skip=skipped, limit=size, allow_disk_use=True)
        return Logs(logs=[documents.log_of(document) async for document in cursor], total=total)

    async def get_config_use(self, organisation: str, config_id: str, hidden: Sequence[str]) -> ConfigUse:
        """Return log count and newest `created_at` of a config version, without logs of the projects in `hidden`."""
        logs = {"organisation": organisation, "config_id": config_id} | excluding_projects(hidden)
        newest = await self._logs.find_one(logs, {"created_at": 1}, sort=[("created_at", DESCENDING)])
        count = await self._logs.count_documents(logs) if newest else 0
        return ConfigUse(logs=count, last_used=newest["created_at"] if newest else None)

    async def get_many_uses(
        self, organisation: str, field: Literal["project_id", "config_id"], ids: Sequence[str], hidden: Sequence[str]
    ) -> UseById:
        """Return log counts and newest `created_at` of many projects or config versions, of those that have logs."""
        conditions = [{field: {"$in": list(ids)}}, excluding_projects(hidden)]
        cursor = self._logs.aggregate(
            [
                {"$match": {"organisation": organisation, "$and": conditions}},
                {"$group": {"_id": f"${field}", "logs": {"$sum": 1}, "last": {"$max": "$created_at"}}},
            ]
        )
        return {row["_id"]: ConfigUse(logs=row["logs"], last_used=row["last"]) async for row in cursor}

    async def list_session_logs(self, organisation: str, session_id: str, hidden: Sequence[str]) -> list[TreeLog]:
        """Return the logs of a session from first to last, without their content and the projects in `hidden`."""
        cursor = self._logs.find(
            {"organisation": organisation, "session_id": session_id} | excluding_projects(hidden),
            {"project_id": 1, "parent_id": 1, "created_at": 1, "created_microseconds": 1},
            sort=[("created_at", ASCENDING), ("recorded", ASCENDING)],
        )
        return [
            TreeLog(
                documents.key_from_id(document["_id"]).id,
                document["project_id"],
                document.get("parent_id"),
                documents.created_at_of(document),
            )
            async for document in cursor
        ]

    async def list_session_stats(
        self, organisation: str, session_ids: Sequence[str], hidden: Sequence[str]
    ) -> list[SessionStats]:
        """Return the statistics of the sessions, one row for each session and project, without those in `hidden`."""
        cursor = self._logs.aggregate(stats_pipeline(organisation, session_ids, hidden))
        return [stats_of(row) async for row in cursor]

    async def delete_project_logs(self, organisation: str, project_id: str) -> None:
        """Delete all logs of a project, `CHUNK_SIZE` at a time."""
        logs = {"organisation": organisation, "project_id": project_id}
        while ids := [document["_id"] async for document in self._logs.find(logs, {"_id": 1}, limit=CHUNK_SIZE)]:
            await self._logs.delete_many({"_id": {"$in": ids}})

    async def delete_stubs(self, keys: Iterable[LogKey]) -> None:
        """Delete those of the documents that are stubs."""
        ids = [documents.document_id(key) for key in keys]
        await self._logs.delete_many({"_id": {"$in": ids}, "recorded": {"$exists": False}})


def _chunks(items: Iterable[Any]) -> Iterable[list[Any]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, CHUNK_SIZE)):
        yield chunk
