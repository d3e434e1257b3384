"""The collection `deletions`: projects that are gone. Their ids are never used again, so this is true for ever."""

from collections.abc import Collection
from contextlib import suppress

from pymongo.errors import DuplicateKeyError

from shared import mongo
from shared.mongo import Database


@mongo.store
class DeletionStore:
    """Which projects' logs are not to be kept."""

    def __init__(self, database: Database) -> None:
        self._deletions = database["deletions"]

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
