"""The collection `versions`: config versions; documents are never updated.

A config is stored as JSON text, so it comes back exactly: BSON would bound its integers, its depth and its keys.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import TypeAdapter
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from shared import mongo
from shared.blobs import TOKEN, digests_in
from shared.contracts.generation.projects import Config, ConfigVersion, model_of
from shared.contracts.logs import Page
from shared.errors import NotFound

_CONFIG: TypeAdapter[Config] = TypeAdapter(Config)


def _version(document: mongo.Document) -> ConfigVersion:
    return ConfigVersion(
        id=document["_id"],
        project_id=document["project_id"],
        config=_CONFIG.validate_json(document["content"]),
        created_at=document["created_at"],
    )


@mongo.raises_unavailable
class VersionStore:
    """Inserts and reads versions; the id is derived from the content, so two writers of one config share a document."""

    def __init__(self, database: mongo.Database) -> None:
        self._versions = database["versions"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._versions.create_index(
            [("organisation", ASCENDING), ("project_id", ASCENDING), ("created_at", DESCENDING)]
        )

    async def get_many(self, organisation: str, config_ids: Sequence[str]) -> list[ConfigVersion]:
        """Return the versions with these ids, in no order; ids without a version are left out."""
        cursor = self._versions.find({"_id": {"$in": list(config_ids)}, "organisation": organisation})
        return [_version(document) async for document in cursor]

    async def get_names(self, organisation: str, config_ids: Sequence[str]) -> dict[str, str | None]:
        """Return the configs' names by id, without unknown ids. Reads one config at a time, as they may be large."""
        return {
            config_id: version.config.name
            for config_id in dict.fromkeys(config_ids)
            for version in await self.get_many(organisation, [config_id])
        }

    async def list_page(self, organisation: str, project_id: str, page: Page) -> tuple[list[ConfigVersion], int]:
        """Return a page of the project's versions, newest first, and the total count."""
        query = {"organisation": organisation, "project_id": project_id}
        total = await self._versions.count_documents(query)
        skip = page.number * page.size
        if not 0 <= skip < total:
            return [], total
        newest_first = [("created_at", DESCENDING), ("_id", DESCENDING)]
        cursor = self._versions.find(query, sort=newest_first, skip=skip, limit=page.size)
        return [_version(document) async for document in cursor], total

    async def find_or_insert(
        self, organisation: str, project_id: str, config_id: str, config: Config
    ) -> tuple[ConfigVersion, bool]:
        """Return the version with this derived id, inserted if there is none, and whether it was inserted.

        A stored version keeps its first name and description. Raises NotFound if it is deleted at this moment.
        """
        document = {
            "organisation": organisation,
            "project_id": project_id,
            "kind": config.type,
            "model": model_of(config),
            "content": config.model_dump_json(),
            "created_at": datetime.now(UTC),
        }
        inserted = False
        with suppress(DuplicateKeyError):  # another caller inserted the same
            result = await self._versions.update_one({"_id": config_id}, {"$setOnInsert": document}, upsert=True)
            inserted = result.upserted_id is not None
        stored = await self._versions.find_one({"_id": config_id, "organisation": organisation})
        if stored is None:
            raise NotFound(f"The config {config_id!r} was deleted at this moment.")
        return _version(stored), inserted

    async def list_named_blobs(self, organisation: str, digests: Sequence[str]) -> set[str]:
        """Return those of the blobs that a version of the organisation names. Reads all of its versions."""
        named = {"organisation": organisation, "content": {"$regex": f"{TOKEN}({'|'.join(digests)})"}}
        return {digest async for document in self._versions.find(named) for digest in digests_in(document["content"])}

    async def list_project_blobs(self, organisation: str, project_id: str) -> set[str]:
        """Return the digests of the blobs that versions of the project name."""
        named = {"organisation": organisation, "project_id": project_id, "content": {"$regex": TOKEN}}
        return {digest async for document in self._versions.find(named) for digest in digests_in(document["content"])}

    async def delete_by_project(self, organisation: str, project_id: str) -> None:
        """Delete every version of the project."""
        await self._versions.delete_many({"organisation": organisation, "project_id": project_id})
