"""The collection `sessions`: only what a listing needs; counts, inputs and outputs are computed from the logs."""

from collections.abc import Iterable, Sequence

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from services.logging.sessions import Presence
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
        self._known: dict[str, Presence] = {}

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

    async def include(self, presences: Iterable[Presence]) -> None:
        """Make the sessions if need be, with these projects in them, and begun no later than this."""
        fresh = [presence for presence in presences if not self._is_known(presence)]
        for start in range(0, len(fresh), CHUNK):
            chunk = fresh[start : start + CHUNK]
            written = await insert(self._sessions, [_document(presence) for presence in chunk])
            await update(self._sessions, [_widening(chunk[index]) for index in written.present])
        for presence in fresh:
            self._remember(presence)

    async def get(self, organisation: str, session_id: str) -> Presence | None:
        """One session."""
        document = await self._sessions.find_one({"_id": f"{organisation}/{session_id}"})
        return None if document is None else _presence(document)

    async def of_project(self, organisation: str, project_id: str, page: Page) -> tuple[Sequence[Presence], int]:
        """A page of the sessions with a log of the project, newest first, and how many there are."""
        matching = {"organisation": organisation, "project_ids": project_id}
        total = await self._sessions.count_documents(matching)
        skipped = page.number * page.size
        if page.size < 1 or not 0 <= skipped < total:
            return [], total
        cursor = self._sessions.find(matching, sort=_NEWEST_FIRST, skip=skipped, limit=page.size)
        return [_presence(document) async for document in cursor], total

    async def leave(self, organisation: str, project_id: str) -> None:
        """The project has no logs any more. Sessions that had no other project disappear.

        None is left without a project, whatever joins it meanwhile: such a session would be there for ever.
        """
        of_it = {"organisation": organisation, "project_ids": project_id}
        with_others = of_it | {"project_ids.1": {"$exists": True}}
        while await self._sessions.find_one(of_it, {"_id": 1}):
            await self._sessions.update_many(with_others, {"$pull": {"project_ids": project_id}})
            await self._sessions.delete_many({"organisation": organisation, "project_ids": [project_id]})
        for key in [key for key, presence in self._known.items() if project_id in presence.project_ids]:
            del self._known[key]

    def _is_known(self, presence: Presence) -> bool:
        known = self._known.get(_id(presence))
        return known is not None and known.covers(presence)

    def _remember(self, presence: Presence) -> None:
        known = self._known.pop(_id(presence), None)
        self._known[_id(presence)] = presence if known is None else known.with_(presence)
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]


def _id(presence: Presence) -> str:
    return f"{presence.organisation}/{presence.id}"


def _document(presence: Presence) -> Document:
    document: Document = {
        "_id": _id(presence),
        "organisation": presence.organisation,
        "project_ids": sorted(presence.project_ids),
        "created_at": presence.created_at,
    }
    if presence.reference_id is not None:
        document["reference_id"] = presence.reference_id
    return document


def _widening(presence: Presence) -> UpdateOne:
    smallest: Document = {"created_at": presence.created_at}
    if presence.reference_id is not None:
        smallest["reference_id"] = presence.reference_id
    change: Document = {
        "$min": smallest,
        "$addToSet": {"project_ids": {"$each": sorted(presence.project_ids)}},
        "$setOnInsert": {"organisation": presence.organisation},
    }
    # It was there a moment ago; if it has disappeared with its project since, it comes back with this one.
    return UpdateOne({"_id": _id(presence)}, change, upsert=True)


def _presence(document: Document) -> Presence:
    organisation, _, session_id = document["_id"].rpartition("/")
    return Presence(
        organisation,
        session_id,
        document["created_at"],
        frozenset(document["project_ids"]),
        document.get("reference_id"),
    )
