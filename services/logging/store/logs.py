"""The collection `logs`: recording, updating, and settling in sessions. Every key begins with the organisation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Literal, NamedTuple

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from services.logging.decoding import Entry
from services.logging.session_resolution import LogKey, SessionAssignment, key_of
from services.logging.sessions import SessionStats
from services.logging.store import documents
from services.logging.store.searching import condition, order
from services.logging.store.writes import CHUNK, insert, update
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

_BY_PARENT = "waiting_by_parent"
UseById = dict[str, ConfigUse]


class Added(NamedTuple):
    """What became of new logs."""

    refused: dict[LogKey, str]
    """Can never be stored, and why."""
    repeats: set[LogKey]
    """An earlier log of this id is stored, and stays."""


class Waiting(NamedTuple):
    """A log whose session depends on a parent that was not known."""

    id: str
    parent_id: str
    project_id: str
    created_at: datetime


@mongo.store
class LogStore:
    """Logs. A log is one document whatever arrives how often and in what order."""

    def __init__(self, database: Database) -> None:
        self._logs = database["logs"]

    async def prepare(self) -> None:
        """Declare the indexes."""
        newest = [("created_at", DESCENDING), ("recorded", DESCENDING)]
        await self._logs.create_indexes(
            [
                IndexModel([("organisation", ASCENDING), ("project_id", ASCENDING), *newest], name="project_by_time"),
                IndexModel(
                    [("organisation", ASCENDING), ("config_id", ASCENDING), ("created_at", DESCENDING)],
                    name="config_by_time",
                ),
                IndexModel(
                    [("organisation", ASCENDING), ("session_id", ASCENDING), *newest],
                    name="session_by_time",
                    partialFilterExpression={"session_id": {"$exists": True}},
                ),
                IndexModel(
                    [("organisation", ASCENDING), ("parent_id", ASCENDING)],
                    name=_BY_PARENT,
                    partialFilterExpression={"waiting": True},
                ),
            ]
        )

    async def add(self, entries: Sequence[Entry[LogRecord]], assignments: Mapping[LogKey, SessionAssignment]) -> Added:
        """Store new logs. Of several with one id, the one accepted first is kept, also when it is stored later."""
        added = Added({}, set())
        fit: list[Document] = []
        for entry in entries:
            key = key_of(entry.record)
            try:
                fit.append(documents.document_of(entry, assignments[key]))
            except (OverflowError, ValueError) as error:
                added.refused[key] = f"cannot be encoded: {error}"
        for chunk in _chunks(fit):
            written = await insert(self._logs, chunk)
            for index, reason in written.refused.items():
                added.refused[documents.key_in(chunk[index]["_id"])] = reason
            if written.present:
                added.repeats.update(await self._merge([chunk[index] for index in written.present]))
        return added

    async def _merge(self, arrived: Sequence[Document]) -> list[LogKey]:
        """Put logs in the place of stubs and of later logs; those that an earlier one keeps out are returned."""
        ids = [document["_id"] for document in arrived]
        stored = {
            document["_id"]: document.get("recorded")
            async for document in self._logs.find({"_id": {"$in": ids}}, {"recorded": 1})
        }
        repeats: list[LogKey] = []
        merges: list[UpdateOne] = []
        for document in arrived:
            there, recorded = stored.get(document["_id"]), document["recorded"]
            if there is None or there > recorded:
                free = [{"recorded": {"$exists": False}}, {"recorded": {"$gt": recorded}}]
                merges.append(UpdateOne({"_id": document["_id"], "$or": free}, documents.merging(document)))
            elif there < recorded:
                repeats.append(documents.key_in(document["_id"]))
        await update(self._logs, merges)
        return repeats

    async def change(self, entries: Sequence[Entry[LogUpdate]]) -> dict[int, str]:
        """Apply updates, also those of logs that are not there yet; by position those that never can be, and why."""
        return await self._apply(
            (LogKey(entry.record.organisation, entry.record.id), documents.changing(entry)) for entry in entries
        )

    async def store_feedback(self, entries: Sequence[Entry[FeedbackGiven]]) -> dict[int, str]:
        """The same for feedback, that on one log together; if it is refused together, then one by one."""
        by_log: dict[LogKey, list[int]] = {}
        for index, entry in enumerate(entries):
            by_log.setdefault(LogKey(entry.record.organisation, entry.record.log_id), []).append(index)
        logs = list(by_log.items())
        refused = await self._apply(
            (key, documents.feedback_updates([entries[at] for at in places])) for key, places in logs
        )
        alone = [(logs[at][0], index, reason) for at, reason in refused.items() for index in logs[at][1]]
        if len(alone) == len(refused):
            return {index: reason for _, index, reason in alone}
        again = await self._apply((key, documents.feedback_updates([entries[index]])) for key, index, _ in alone)
        return {alone[at][1]: reason for at, reason in again.items()}

    async def _apply(self, changes: Iterator[tuple[LogKey, list[Document]]]) -> dict[int, str]:
        """Change logs, or make stubs."""
        refused: dict[int, str] = {}
        for number, chunk in enumerate(_chunks(changes)):
            updates = [UpdateOne({"_id": documents.id_of(key)}, change, upsert=True) for key, change in chunk]
            for index, reason in (await update(self._logs, updates)).items():
                refused[number * CHUNK + index] = reason
        return refused

    async def present(self, keys: Iterable[LogKey]) -> set[LogKey]:
        """Those of the logs that are stored."""
        condition = {"_id": {"$in": [documents.id_of(key) for key in keys]}, "recorded": {"$exists": True}}
        return {documents.key_in(document["_id"]) async for document in self._logs.find(condition, {"_id": 1})}

    async def assignments(self, keys: Iterable[LogKey]) -> dict[LogKey, SessionAssignment]:
        """Where the logs belong, of those that are stored and settled."""
        ids = [documents.id_of(key) for key in keys]
        if not ids:
            return {}
        condition = {"_id": {"$in": ids}, "recorded": {"$exists": True}, "waiting": {"$exists": False}}
        return {
            documents.key_in(document["_id"]): SessionAssignment(document.get("session_id"))
            async for document in self._logs.find(condition, {"session_id": 1})
        }

    async def waiting(self, organisation: str, parents: Iterable[str]) -> list[Waiting]:
        """The logs that wait for one of `parents`. Costs next to nothing when none of the organisation waits."""
        found: list[Waiting] = []
        if not await self._logs.find_one({"organisation": organisation, "waiting": True}, {"_id": 1}, hint=_BY_PARENT):
            return found
        for chunk in _chunks(parents):
            condition = {"organisation": organisation, "parent_id": {"$in": chunk}, "waiting": True}
            fields = {"parent_id": 1, "project_id": 1, "created_at": 1}
            async for document in self._logs.find(condition, fields, hint=_BY_PARENT):
                key = documents.key_in(document["_id"])
                found.append(Waiting(key.id, document["parent_id"], document["project_id"], document["created_at"]))
        return found

    async def assign(self, organisation: str, assignments: Mapping[str, SessionAssignment]) -> None:
        """Give waiting logs their home; they wait no longer."""
        by_assignment: dict[SessionAssignment, list[str]] = {}
        for log_id, assignment in assignments.items():
            by_assignment.setdefault(assignment, []).append(documents.id_of(LogKey(organisation, log_id)))
        for assignment, ids in by_assignment.items():
            change: Document = {"$unset": {"waiting": ""}}
            if assignment.session_id is not None:
                change["$set"] = {"session_id": assignment.session_id}
            for chunk in _chunks(ids):
                await self._logs.update_many({"_id": {"$in": chunk}, "waiting": True}, change)

    async def get(self, organisation: str, log_id: str) -> StoredLog | None:
        """One log."""
        key = LogKey(organisation, log_id)
        document = await self._logs.find_one({"_id": documents.id_of(key), "recorded": {"$exists": True}})
        return None if document is None else documents.log_of(document)

    async def feedback(self, organisation: str, log_ids: Sequence[str], types: Sequence[str]) -> list[LogFeedback]:
        """Where logs belong, and what is said of these types about them; of those that are stored."""
        keys = [documents.id_of(LogKey(organisation, log_id)) for log_id in log_ids]
        fields = {"project_id": 1} | ({"feedback": 1, "said": 1} if types else {})
        return [
            LogFeedback(
                log_id=documents.key_in(document["_id"]).id,
                project_id=document["project_id"],
                feedback=[one for one in documents.feedback_of(document) if one.type in types],
            )
            async for document in self._logs.find({"_id": {"$in": keys}, "recorded": {"$exists": True}}, fields)
        ]

    async def search(self, organisation: str, query: SearchLogs) -> Logs:
        """A page of the logs of a project, and how many match."""
        matching = condition(organisation, query)
        total = await self._logs.count_documents(matching)
        size, skipped = query.page.size, query.page.number * query.page.size
        if size < 1 or not 0 <= skipped < total:
            return Logs(logs=[], total=total)
        cursor = self._logs.find(matching, sort=order(query.sort), skip=skipped, limit=size, allow_disk_use=True)
        return Logs(logs=[documents.log_of(document) async for document in cursor], total=total)

    async def use(self, organisation: str, config_id: str, hidden: Sequence[str]) -> ConfigUse:
        """How many logs a config version has, and when the newest was made; not counting the hidden projects."""
        logs = {"organisation": organisation, "config_id": config_id} | _not_in(hidden)
        newest = await self._logs.find_one(logs, {"created_at": 1}, sort=[("created_at", DESCENDING)])
        count = await self._logs.count_documents(logs) if newest else 0
        return ConfigUse(logs=count, last_used=newest["created_at"] if newest else None)

    async def uses(
        self, organisation: str, field: Literal["project_id", "config_id"], ids: Sequence[str], hidden: Sequence[str]
    ) -> UseById:
        """The same of many projects or config versions; those without logs are left out."""
        found = self._logs.aggregate(
            [
                {"$match": {"organisation": organisation, "$and": [{field: {"$in": list(ids)}}, _not_in(hidden)]}},
                {"$group": {"_id": f"${field}", "logs": {"$sum": 1}, "last": {"$max": "$created_at"}}},
            ]
        )
        return {line["_id"]: ConfigUse(logs=line["logs"], last_used=line["last"]) async for line in found}

    async def remove_project(self, organisation: str, project_id: str) -> None:
        """All logs of a project, some at a time."""
        logs = {"organisation": organisation, "project_id": project_id}
        while ids := [document["_id"] async for document in self._logs.find(logs, {"_id": 1}, limit=CHUNK)]:
            await self._logs.delete_many({"_id": {"$in": ids}})

    async def remove_stubs(self, keys: Iterable[LogKey]) -> None:
        """What updates left of logs that are not there."""
        ids = [documents.id_of(key) for key in keys]
        await self._logs.delete_many({"_id": {"$in": ids}, "recorded": {"$exists": False}})

    async def members(self, organisation: str, session_id: str, hidden: Sequence[str]) -> list[TreeLog]:
        """The logs of a session, first to last, without their content and without those of the hidden projects."""
        cursor = self._logs.find(
            {"organisation": organisation, "session_id": session_id} | _not_in(hidden),
            {"project_id": 1, "parent_id": 1, "created_at": 1, "created_microseconds": 1},
            sort=[("created_at", ASCENDING), ("recorded", ASCENDING)],
        )
        return [
            TreeLog(
                documents.key_in(document["_id"]).id,
                document["project_id"],
                document.get("parent_id"),
                documents.created_of(document),
            )
            async for document in cursor
        ]

    async def session_stats(
        self, organisation: str, session_ids: Sequence[str], hidden: Sequence[str]
    ) -> list[SessionStats]:
        """What the sessions hold, by project, without the hidden ones."""
        pipeline: list[dict[str, Any]] = [
            {"$match": {"organisation": organisation, "session_id": {"$in": list(session_ids)}} | _not_in(hidden)},
            {"$group": _SESSION_STATS},
        ]
        return [
            SessionStats(
                session_id=line["_id"]["session"],
                project_id=line["_id"]["project"],
                logs=line["logs"],
                first=(line["first"]["at"], line["first"]["recorded"]),
                first_inputs=documents.inputs_of(line["first"]),
                last=(line["last"]["at"], line["last"]["recorded"]) if line["last"].get("at") else None,
                last_output=line["last"].get("output"),
                updated_at=line["updated_at"],
            )
            async for line in self._logs.aggregate(pipeline)
        ]


_SESSION_STATS: dict[str, Any] = {
    "_id": {"session": "$session_id", "project": "$project_id"},
    "logs": {"$sum": 1},
    "updated_at": {"$max": "$updated_at"},
    "first": {
        "$top": {
            "sortBy": {"created_at": ASCENDING, "recorded": ASCENDING},
            "output": {"at": "$created_at", "recorded": "$recorded", "inputs": "$inputs"},
        }
    },
    # A missing `output_at` sorts below every date.
    "last": {
        "$top": {
            "sortBy": {"output_at": DESCENDING, "recorded": DESCENDING},
            "output": {"at": "$output_at", "recorded": "$recorded", "output": "$output"},
        }
    },
}


def _not_in(hidden: Sequence[str]) -> Document:
    """No log of these projects. Without any it is no condition: one would have MongoDB look at every document."""
    return {"project_id": {"$nin": list(hidden)}} if hidden else {}


def _chunks(items: Iterable[Any]) -> Iterable[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
