"""The collection `logs`: one document a log, with its session, updates and feedback.

Every `_id` and every index begins with the organisation.
"""

from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Literal, NamedTuple

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.errors import ExecutionTimeout

from services.logging.decoding import Entry
from services.logging.session_resolution import LogKey, SessionAssignment, key_of
from services.logging.sessions import SessionStats
from services.logging.settings import SEARCH_SECONDS
from services.logging.store import derived_fields, documents, feedback_fields
from services.logging.store.bulk_writes import chunks, insert_many, update_many, upsert_many
from services.logging.store.queries import NEWEST_FIRST, excluding_projects, search_filter, sort_order
from services.logging.store.session_stats import stats_of, stats_pipeline
from services.logging.store.unresolved_logs import UNRESOLVED_BY_PARENT
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
from shared.errors import Unavailable
from shared.mongo import Database, Document

UseById = dict[str, ConfigUse]
_DELETED = -1
"""Stands for the position of a deleted log: no log is accepted earlier."""


class InsertResult(NamedTuple):
    """Which new logs were not stored."""

    rejected: dict[LogKey, str]
    """Can never be stored, with the reason."""
    duplicates: set[LogKey]
    """A log of this id was accepted earlier, and stays."""


@mongo.raises_unavailable
class LogStore:
    """Logs. Writes may come repeatedly and in any order: a log is one document all the same."""

    def __init__(self, database: Database, search_seconds: float = SEARCH_SECONDS) -> None:
        """`search_seconds` is how long the database may work on one search."""
        self._logs = database["logs"]
        self._search_seconds = search_seconds

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
                    name=UNRESOLVED_BY_PARENT,
                    partialFilterExpression={"waiting": True},
                ),
                IndexModel(
                    [
                        ("organisation", ASCENDING),
                        ("project_id", ASCENDING),
                        ("feedback_keys", ASCENDING),
                        *NEWEST_FIRST,
                    ],
                    name="project_by_feedback",
                    partialFilterExpression={"feedback_keys": {"$exists": True}},
                ),
                IndexModel(
                    [("organisation", ASCENDING), ("blobs", ASCENDING)],
                    name="blobs",
                    partialFilterExpression={"blobs": {"$exists": True}},
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
        for chunk in chunks(encoded):
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
            document["_id"]: _DELETED if "deleted" in document else document.get("recorded")
            async for document in self._logs.find({"_id": {"$in": ids}}, {"recorded": 1, "deleted": 1})
        }
        duplicates: list[LogKey] = []
        replacements: list[UpdateOne] = []
        for document in new:
            stored_position, position = stored_positions.get(document["_id"]), document["recorded"]
            if stored_position is None or stored_position > position:
                replaceable = [
                    {"recorded": {"$exists": False}, "deleted": {"$exists": False}},
                    {"recorded": {"$gt": position}},
                ]
                replacements.append(
                    UpdateOne({"_id": document["_id"], "$or": replaceable}, documents.replacement_pipeline(document))
                )
            elif stored_position < position:
                duplicates.append(documents.key_from_id(document["_id"]))
        await update_many(self._logs, replacements)
        await self._derive_feedback_fields(ids)
        return duplicates

    async def update_logs(self, entries: Sequence[Entry[LogUpdate]]) -> dict[int, str]:
        """Apply updates, making stubs of logs that are not stored; return by index the reasons of rejected updates."""
        keys = (LogKey(entry.record.organisation, entry.record.id) for entry in entries)
        pipelines = (documents.update_pipeline(entry) for entry in entries)
        return await upsert_many(self._logs, zip(map(documents.document_id, keys), pipelines, strict=True))

    async def upsert_feedback(self, entries: Sequence[Entry[FeedbackGiven]]) -> dict[int, str]:
        """Add feedback, making stubs of logs that are not stored; return by index the reasons of rejected feedback.

        All feedback on one log is added in one update; if that is rejected, its feedback is added one by one.
        """
        by_log: dict[LogKey, list[int]] = {}
        for index, entry in enumerate(entries):
            by_log.setdefault(LogKey(entry.record.organisation, entry.record.log_id), []).append(index)
        logs = list(by_log.items())
        rejected = await self._upsert_feedback(entries, logs)
        for keys in chunks(by_log):
            await self._derive_feedback_fields([documents.document_id(key) for key in keys])
        return rejected

    async def _upsert_feedback(
        self, entries: Sequence[Entry[FeedbackGiven]], logs: Sequence[tuple[LogKey, list[int]]]
    ) -> dict[int, str]:
        rejected_logs = await upsert_many(
            self._logs,
            (
                (documents.document_id(key), documents.feedback_pipeline([entries[index] for index in indexes]))
                for key, indexes in logs
            ),
        )
        retries = [
            (logs[number][0], index, reason) for number, reason in rejected_logs.items() for index in logs[number][1]
        ]
        if len(retries) == len(rejected_logs):
            return {index: reason for _, index, reason in retries}
        rejected = await upsert_many(
            self._logs,
            ((documents.document_id(key), documents.feedback_pipeline([entries[index]])) for key, index, _ in retries),
        )
        return {retries[number][1]: reason for number, reason in rejected.items()}

    async def _derive_feedback_fields(self, ids: Sequence[str]) -> None:
        """Derive the fields of the latest feedback anew for those of the logs that got some after they were sent.

        Whoever changes the states does this afterwards. So if they change between the read and the write here, which
        then changes nothing, the other derives the fields from both changes.
        """
        states = feedback_fields.STATES_FIELD
        condition = {"_id": {"$in": list(ids)}, states: {"$exists": True}, "recorded": {"$exists": True}}
        updates = []
        async for document in self._logs.find(condition, {"feedback": 1, states: 1}):
            fields = derived_fields.feedback_fields(documents.feedback_of(document))
            change = {"$set": fields} if fields else {"$unset": {"feedback_keys": "", "feedback_order": ""}}
            updates.append(UpdateOne({"_id": document["_id"], states: document[states]}, change))
        await update_many(self._logs, updates)

    async def get_many_stored_keys(self, keys: Iterable[LogKey]) -> set[LogKey]:
        """Return those of `keys` whose log is stored."""
        condition = {"_id": {"$in": [documents.document_id(key) for key in keys]}, "recorded": {"$exists": True}}
        return {documents.key_from_id(document["_id"]) async for document in self._logs.find(condition, {"_id": 1})}

    async def get_many_assignments(self, keys: Iterable[LogKey]) -> dict[LogKey, SessionAssignment]:
        """Return the session assignments of those of the logs that are stored and resolved, or deleted."""
        ids = [documents.document_id(key) for key in keys]
        if not ids:
            return {}
        resolved = {"recorded": {"$exists": True}, "waiting": {"$exists": False}}
        condition = {"_id": {"$in": ids}, "$or": [resolved, {"deleted": {"$exists": True}}]}
        return {
            documents.key_from_id(document["_id"]): SessionAssignment(
                document.get("session_id") or document.get("deleted", {}).get("session_id")
            )
            async for document in self._logs.find(condition, {"session_id": 1, "deleted.session_id": 1})
        }

    async def get_log(self, organisation: str, log_id: str) -> StoredLog | None:
        """Return a log; None if it is not stored."""
        key = LogKey(organisation, log_id)
        document = await self._logs.find_one({"_id": documents.document_id(key), "recorded": {"$exists": True}})
        return None if document is None else documents.log_of(document)

    async def list_feedback(self, organisation: str, log_ids: Sequence[str], types: Sequence[str]) -> list[LogFeedback]:
        """Return the project of each log that is stored, and its feedback in effect of these types."""
        ids = [documents.document_id(LogKey(organisation, log_id)) for log_id in log_ids]
        wanted = frozenset(types)
        fields = {"project_id": 1} | ({"feedback": 1, "said": 1} if wanted else {})
        return [
            LogFeedback(
                log_id=documents.key_from_id(document["_id"]).id,
                project_id=document["project_id"],
                feedback=[feedback for feedback in documents.feedback_of(document) if feedback.type in wanted],
            )
            async for document in self._logs.find({"_id": {"$in": ids}, "recorded": {"$exists": True}}, fields)
        ]

    async def search_logs(self, organisation: str, query: SearchLogs) -> Logs:
        """Return a page of the logs of a project that match, and the number of all that match."""
        matching, deadline = search_filter(organisation, query), monotonic() + self._search_seconds
        size, skipped = query.page.size, query.page.number * query.page.size
        try:
            total = await self._logs.count_documents(matching, maxTimeMS=_milliseconds_until(deadline))
            if size < 1 or not 0 <= skipped < total:
                return Logs(logs=[], total=total)
            order = sort_order(query.sort)
            cursor = self._logs.find(matching, sort=order, skip=skipped, limit=size, allow_disk_use=True)
            cursor.max_time_ms(_milliseconds_until(deadline))
            found = [documents.log_of(document) async for document in cursor]
        except ExecutionTimeout as error:
            raise Unavailable(
                f"The search took longer than {self._search_seconds:g} s. Search a shorter time: start_date, end_date."
            ) from error
        return Logs(logs=found, total=total)

    async def get_config_use(
        self, organisation: str, config_id: str, hidden: Sequence[str], among: Sequence[str] | None
    ) -> ConfigUse:
        """Return log count and newest `created_at` of a config version, of the projects in `among` but not `hidden`."""
        logs = {"organisation": organisation, "config_id": config_id} | excluding_projects(hidden, among)
        newest = await self._logs.find_one(logs, {"created_at": 1}, sort=[("created_at", DESCENDING)])
        count = await self._logs.count_documents(logs) if newest else 0
        return ConfigUse(logs=count, last_used=newest["created_at"] if newest else None)

    async def get_many_uses(
        self,
        organisation: str,
        field: Literal["project_id", "config_id"],
        ids: Sequence[str],
        hidden: Sequence[str],
        among: Sequence[str] | None,
    ) -> UseById:
        """Return log counts and newest `created_at` of many projects or config versions, of those that have logs."""
        conditions = [{field: {"$in": list(ids)}}, excluding_projects(hidden, among)]
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


def _milliseconds_until(deadline: float) -> int:
    """Return the time that is left, at least 1: MongoDB takes 0 for no limit. Raises ExecutionTimeout if none is."""
    if (seconds := deadline - monotonic()) <= 0:
        raise ExecutionTimeout("no time is left of what a search may take")
    return max(1, round(seconds * 1000))
