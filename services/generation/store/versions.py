"""The collection `versions`: configs, which never change.

A config is kept as JSON text, so it comes back exactly: BSON would bound its integers, its depth and its keys.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import TypeAdapter
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from shared import mongo
from shared.contracts.logs import Page
from shared.contracts.projects import Config, ConfigVersion, ModelConfig
from shared.errors import NotFound

_CONFIG: TypeAdapter[Config] = TypeAdapter(Config)


def _version(document: mongo.Document) -> ConfigVersion:
    return ConfigVersion(
        id=document["_id"],
        project_id=document["project_id"],
        config=_CONFIG.validate_json(document["content"]),
        created_at=document["created_at"],
    )


@mongo.store
class VersionStore:
    """Versions under ids derived from what they say, so that two writers of one config meet."""

    def __init__(self, database: mongo.Database) -> None:
        self._versions = database["versions"]

    async def prepare(self) -> None:
        """Indexes."""
        await self._versions.create_index(
            [("organisation", ASCENDING), ("project_id", ASCENDING), ("created_at", DESCENDING)]
        )

    async def several(self, organisation: str, config_ids: Sequence[str]) -> list[ConfigVersion]:
        """Those that exist."""
        found = self._versions.find({"_id": {"$in": list(config_ids)}, "organisation": organisation})
        return [_version(document) async for document in found]

    async def names(self, organisation: str, config_ids: Sequence[str]) -> dict[str, str | None]:
        """What those that exist are called; one at a time, for they may be large."""
        return {
            one: version.config.name
            for one in dict.fromkeys(config_ids)
            for version in await self.several(organisation, [one])
        }

    async def of_project(self, organisation: str, project_id: str, page: Page) -> tuple[list[ConfigVersion], int]:
        """A page of the versions of a project, newest first, and how many there are."""
        matching = {"organisation": organisation, "project_id": project_id}
        total = await self._versions.count_documents(matching)
        skipped = page.number * page.size
        if not 0 <= skipped < total:
            return [], total
        newest_first = [("created_at", DESCENDING), ("_id", DESCENDING)]
        found = self._versions.find(matching, sort=newest_first, skip=skipped, limit=page.size)
        return [_version(document) async for document in found], total

    async def ensure(
        self, organisation: str, project_id: str, config_id: str, config: Config
    ) -> tuple[ConfigVersion, bool]:
        """The version with this derived id, made if there is none; and whether it was. Its name stays the first."""
        new = {
            "organisation": organisation,
            "project_id": project_id,
            "kind": config.type,
            "model": config.model if isinstance(config, ModelConfig) else None,
            "content": config.model_dump_json(),
            "created_at": datetime.now(UTC),
        }
        made = False
        with suppress(DuplicateKeyError):  # another caller made the same
            written = await self._versions.update_one({"_id": config_id}, {"$setOnInsert": new}, upsert=True)
            made = written.upserted_id is not None
        document = await self._versions.find_one({"_id": config_id, "organisation": organisation})
        if document is None:
            raise NotFound(f"The config {config_id!r} was deleted at this moment.")
        return _version(document), made

    async def remove(self, organisation: str, project_id: str) -> None:
        """All of a project."""
        await self._versions.delete_many({"organisation": organisation, "project_id": project_id})
