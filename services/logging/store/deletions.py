"""The collection `deletions`: projects that are gone. Their ids are never used again, so this is true for ever.

`removed_at` says when all they had was removed; without it that is still to be done, and no read may show it. `late`
counts how often something came after the note.
"""

from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from pymongo import ASCENDING, UpdateOne
from pymongo.errors import DuplicateKeyError

from shared import mongo
from shared.mongo import Database


class Deletion(NamedTuple):
    """A project that is gone."""

    organisation: str
    project_id: str
    late: int


@mongo.store
class DeletionStore:
    """Which projects' logs are not to be kept."""

    def __init__(self, database: Database) -> None:
        self._deletions = database["deletions"]

    async def prepare(self) -> None:
        """Declare the indexes."""
        await self._deletions.create_index(
            [("removed_at", ASCENDING), ("organisation", ASCENDING)], name="unfinished_by_organisation"
        )

    async def remember(self, organisation: str, project_id: str) -> None:
        """Note that the project is gone; repeating it changes nothing."""
        document = {"organisation": organisation, "project_id": project_id}
        with suppress(DuplicateKeyError):  # another replica is at the same
            await self._deletions.update_one(
                {"_id": f"{organisation}/{project_id}"}, {"$setOnInsert": document}, upsert=True
            )

    async def among(self, projects: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the projects (organisation, id) that are gone."""
        if not projects:
            return set()
        keys = [f"{organisation}/{project_id}" for organisation, project_id in projects]
        found = self._deletions.find({"_id": {"$in": keys}})
        return {(document["organisation"], document["project_id"]) async for document in found}

    async def reopen(self, projects: Collection[tuple[str, str]]) -> None:
        """Something came late to these: there is something to remove again."""
        if projects:
            again = {"$unset": {"removed_at": ""}, "$inc": {"late": 1}}
            await self._deletions.bulk_write(
                [UpdateOne({"_id": f"{organisation}/{project_id}"}, again) for organisation, project_id in projects]
            )

    async def unfinished(self, most: int) -> list[Deletion]:
        """Some of the projects, of all organisations, of which something may be left."""
        found = self._deletions.find({"removed_at": None}, limit=most)
        return [
            Deletion(document["organisation"], document["project_id"], document.get("late", 0))
            async for document in found
        ]

    async def hidden(self, organisation: str) -> list[str]:
        """The projects of the organisation of which something may be left, which nobody may see."""
        found = self._deletions.find({"removed_at": None, "organisation": organisation}, {"project_id": 1})
        return [document["project_id"] async for document in found]

    async def finish(self, deletion: Deletion) -> None:
        """Nothing is left; unless something came meanwhile."""
        same = {"_id": f"{deletion.organisation}/{deletion.project_id}", "late": deletion.late or None}
        await self._deletions.update_one(same, {"$set": {"removed_at": datetime.now(UTC)}})
