"""The collection `sessions`: only what a listing needs; counts, inputs and outputs are computed from the logs."""

from collections.abc import Iterable, Sequence

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from services.logging.sessions import SessionRecord
from services.logging.store.writes import CHUNK, insert, update
from shared import mongo
from shared.contracts.logs import Page
from shared.mongo import Database, Document

_NEWEST_FIRST = [("created_at", DESCENDING), ("_id", DESCENDING)]
_REMEMBERED = 20_000
"""Sessions of which this process knows what it has stored: the second log of a session mostly changes nothing."""


@mongo.store
class SessionStore:
    """Sessions. Every write is idempotent and commutes with every other."""

    def __init__(self, database: Database) -> None:
        self._sessions = database["sessions"]
        self._known: dict[str, SessionRecord] = {}

    async def prepare(self) -> None:
        """Declare the indexes."""
        await self._sessions.create_indexes(
            [
                IndexModel(
                    [("organisation", ASCENDING), ("project_ids", ASCENDING), *_NEWEST_FIRST],
                    name="project_by_time",
                )
            ]
        )

    async def include(self, merge_session_records: Iterable[SessionRecord]) -> None:
        """Make the sessions if need be, with these projects in them, and begun no later than this."""
        fresh = [session_record for session_record in merge_session_records if not self._is_known(session_record)]
        for start in range(0, len(fresh), CHUNK):
            chunk = fresh[start : start + CHUNK]
            written = await insert(self._sessions, [_document(session_record) for session_record in chunk])
            await update(self._sessions, [_merge_update(chunk[index]) for index in written.present])
        for session_record in fresh:
            self._remember(session_record)

    async def get(self, organisation: str, session_id: str) -> SessionRecord | None:
        """One session."""
        document = await self._sessions.find_one({"_id": f"{organisation}/{session_id}"})
        return None if document is None else _session_record(document)

    async def of_project(self, organisation: str, project_id: str, page: Page) -> tuple[Sequence[SessionRecord], int]:
        """A page of the sessions with a log of the project, newest first, and how many there are."""
        matching = {"organisation": organisation, "project_ids": project_id}
        total = await self._sessions.count_documents(matching)
        skipped = page.number * page.size
        if page.size < 1 or not 0 <= skipped < total:
            return [], total
        cursor = self._sessions.find(matching, sort=_NEWEST_FIRST, skip=skipped, limit=page.size)
        return [_session_record(document) async for document in cursor], total

    async def leave(self, organisation: str, project_id: str) -> None:
        """The project has no logs any more. Sessions that had no other project disappear.

        None is left without a project, whatever joins it meanwhile: such a session would be there for ever.
        """
        of_it = {"organisation": organisation, "project_ids": project_id}
        with_others = of_it | {"project_ids.1": {"$exists": True}}
        while await self._sessions.find_one(of_it, {"_id": 1}):
            await self._sessions.update_many(with_others, {"$pull": {"project_ids": project_id}})
            await self._sessions.delete_many({"organisation": organisation, "project_ids": [project_id]})
        for key in [key for key, session_record in self._known.items() if project_id in session_record.project_ids]:
            del self._known[key]

    def _is_known(self, session_record: SessionRecord) -> bool:
        known = self._known.get(_id(session_record))
        return known is not None and known.covers(session_record)

    def _remember(self, session_record: SessionRecord) -> None:
        known = self._known.pop(_id(session_record), None)
        self._known[_id(session_record)] = session_record if known is None else known.merged_with(session_record)
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]


def _id(session_record: SessionRecord) -> str:
    return f"{session_record.organisation}/{session_record.id}"


def _document(session_record: SessionRecord) -> Document:
    document: Document = {
        "_id": _id(session_record),
        "organisation": session_record.organisation,
        "project_ids": sorted(session_record.project_ids),
        "created_at": session_record.created_at,
    }
    if session_record.reference_id is not None:
        document["reference_id"] = session_record.reference_id
    return document


def _merge_update(session_record: SessionRecord) -> UpdateOne:
    smallest: Document = {"created_at": session_record.created_at}
    if session_record.reference_id is not None:
        smallest["reference_id"] = session_record.reference_id
    change: Document = {
        "$min": smallest,
        "$addToSet": {"project_ids": {"$each": sorted(session_record.project_ids)}},
        "$setOnInsert": {"organisation": session_record.organisation},
    }
    # It was there a moment ago; if it has disappeared with its project since, it comes back with this one.
    return UpdateOne({"_id": _id(session_record)}, change, upsert=True)


def _session_record(document: Document) -> SessionRecord:
    organisation, _, session_id = document["_id"].rpartition("/")
    return SessionRecord(
        organisation,
        session_id,
        document["created_at"],
        frozenset(document["project_ids"]),
        document.get("reference_id"),
    )
