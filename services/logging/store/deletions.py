"""The collection `deletions`: deleted projects, kept for ever, because ids of projects are never used again.

Stored fields: `removed_at`, when all logs of the project were purged; without it the deletion is pending and reads hide
the project's logs. `late` counts how often logs came after the deletion.
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
    """A pending deletion of a project."""

    organisation: str
    project_id: str
    reopened_count: int
    """How often logs of the project came after its deletion; stored as `late`."""


@mongo.raises_unavailable
class DeletionStore:
    """Deletions of projects."""

    def __init__(self, database: Database) -> None:
        self._deletions = database["deletions"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._deletions.create_index(
            [("removed_at", ASCENDING), ("organisation", ASCENDING)], name="unfinished_by_organisation"
        )

    async def insert_deletion(self, organisation: str, project_id: str) -> None:
        """Insert a pending deletion; if there is one of the project, do nothing."""
        document = {"organisation": organisation, "project_id": project_id}
        with suppress(DuplicateKeyError):  # another replica inserted it at the same moment
            await self._deletions.update_one(
                {"_id": f"{organisation}/{project_id}"}, {"$setOnInsert": document}, upsert=True
            )

    async def get_many_deleted(self, projects: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of `projects`, as (organisation, id), that are deleted."""
        if not projects:
            return set()
        ids = [f"{organisation}/{project_id}" for organisation, project_id in projects]
        cursor = self._deletions.find({"_id": {"$in": ids}})
        return {(document["organisation"], document["project_id"]) async for document in cursor}

    async def mark_pending(self, projects: Collection[tuple[str, str]]) -> None:
        """Make the deletions of `projects`, as (organisation, id), pending again: logs came after them."""
        if projects:
            reopen = {"$unset": {"removed_at": ""}, "$inc": {"late": 1}}
            await self._deletions.bulk_write(
                [UpdateOne({"_id": f"{organisation}/{project_id}"}, reopen) for organisation, project_id in projects]
            )

    async def list_pending(self, limit: int) -> list[Deletion]:
        """Return up to `limit` pending deletions, of all organisations."""
        cursor = self._deletions.find({"removed_at": None}, limit=limit)
        return [
            Deletion(document["organisation"], document["project_id"], document.get("late", 0))
            async for document in cursor
        ]

    async def list_hidden_project_ids(self, organisation: str) -> list[str]:
        """Return the organisation's projects with a pending deletion, whose logs reads must hide."""
        cursor = self._deletions.find({"removed_at": None, "organisation": organisation}, {"project_id": 1})
        return [document["project_id"] async for document in cursor]

    async def mark_purged(self, deletion: Deletion) -> None:
        """Set the time of the purge, unless logs came since `deletion` was read."""
        unchanged = {
            "_id": f"{deletion.organisation}/{deletion.project_id}",
            "late": deletion.reopened_count or None,
        }
        await self._deletions.update_one(unchanged, {"$set": {"removed_at": datetime.now(UTC)}})
