"""What generation keeps: projects, config versions, environments, and what is deployed where.

A config is kept as JSON text, so it comes back exactly: BSON would bound its integers, its depth and its keys.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import TypeAdapter
from pymongo.errors import DuplicateKeyError

from shared import ids, mongo
from shared.contracts.projects import Config, ConfigVersion, ModelConfig, Project
from shared.errors import NotFound

DEFAULT_ENVIRONMENT = "production"
"""Every organisation has it, and it is the default one until another is made that."""

_CONFIG: TypeAdapter[Config] = TypeAdapter(Config)


class Environment(NamedTuple):
    """A place to deploy to, in every project of the organisation."""

    id: str
    name: str


class Deployed(NamedTuple):
    """What is active in an environment."""

    environment: str
    """Its name."""
    config_id: str | None


def _project(document: mongo.Document) -> Project:
    return Project(
        id=document["_id"],
        name=document["name"],
        config_type=document.get("config_type"),
        created_at=document["created_at"],
        updated_at=document["updated_at"],
    )


def _version(document: mongo.Document) -> ConfigVersion:
    return ConfigVersion(
        id=document["_id"],
        project_id=document["project_id"],
        config=_CONFIG.validate_json(document["content"]),
        created_at=document["created_at"],
    )


@mongo.store
class Store:
    """The database of this service. Ids are derived wherever two writers could make the same thing."""

    def __init__(self, database: mongo.Database) -> None:
        self._projects = database["projects"]
        self._versions = database["versions"]
        self._environments = database["environments"]
        self._deployments = database["deployments"]

    async def prepare(self) -> None:
        """Indexes; the unique ones are what makes find-or-create safe."""
        await self._projects.create_index([("organisation", 1), ("name", 1)], unique=True)
        await self._versions.create_index([("organisation", 1), ("project_id", 1), ("created_at", -1)])
        await self._environments.create_index([("organisation", 1), ("name", 1)], unique=True)
        await self._deployments.create_index(
            [("organisation", 1), ("project_id", 1), ("environment_id", 1)], unique=True
        )

    async def project(self, organisation: str, project_id: str) -> Project | None:
        """One project by id."""
        document = await self._projects.find_one({"_id": project_id, "organisation": organisation})
        return _project(document) if document else None

    async def project_named(self, organisation: str, name: str) -> Project | None:
        """One project by name."""
        document = await self._projects.find_one({"organisation": organisation, "name": name})
        return _project(document) if document else None

    async def projects(self, organisation: str, project_ids: Sequence[str]) -> list[Project]:
        """Those that exist."""
        found = self._projects.find({"_id": {"$in": list(project_ids)}, "organisation": organisation})
        return [_project(document) async for document in found]

    async def ensure_project(self, organisation: str, name: str) -> Project:
        """The project of this name, made if there is none."""
        if project := await self.project_named(organisation, name):
            return project
        now = datetime.now(UTC)
        new = {
            "_id": ids.mint("pr"),
            "config_type": None,
            "first_config_id": None,
            "created_at": now,
            "updated_at": now,
        }
        wanted = {"organisation": organisation, "name": name}
        with suppress(DuplicateKeyError):  # another caller made it between the look and the write
            await self._projects.update_one(wanted, {"$setOnInsert": new}, upsert=True)
        document = await self._projects.find_one(wanted)
        if document is None:
            raise NotFound(f"The project {name!r} was deleted at this moment.")
        return _project(document)

    async def versions(self, organisation: str, config_ids: Sequence[str]) -> list[ConfigVersion]:
        """Those that exist."""
        found = self._versions.find({"_id": {"$in": list(config_ids)}, "organisation": organisation})
        return [_version(document) async for document in found]

    async def ensure_version(self, organisation: str, project_id: str, config_id: str, config: Config) -> ConfigVersion:
        """The version with this derived id, made if there is none. Its name and description stay."""
        now = datetime.now(UTC)
        new = {
            "organisation": organisation,
            "project_id": project_id,
            "kind": config.type,
            "model": config.model if isinstance(config, ModelConfig) else None,
            "content": config.model_dump_json(),
            "created_at": now,
        }
        with suppress(DuplicateKeyError):  # another caller made the same
            written = await self._versions.update_one({"_id": config_id}, {"$setOnInsert": new}, upsert=True)
            if written.upserted_id is not None:
                await self._projects.update_one({"_id": project_id}, {"$max": {"updated_at": now}})
        document = await self._versions.find_one({"_id": config_id, "organisation": organisation})
        if document is None:
            raise NotFound(f"The config {config_id!r} was deleted at this moment.")
        return _version(document)

    async def has_configs(self, organisation: str, project_id: str) -> bool:
        """Whether a first config was registered, as the primary knows it now."""
        wanted = {"_id": project_id, "organisation": organisation, "first_config_id": {"$ne": None}}
        return await self._projects.find_one(wanted, {"_id": 1}) is not None

    async def mark_first(self, organisation: str, project_id: str, config_id: str, config: Config) -> None:
        """Note the first config and its kind; a second note changes nothing."""
        await self._projects.update_one(
            {"_id": project_id, "organisation": organisation, "first_config_id": None},
            {"$set": {"first_config_id": config_id, "config_type": config.type}},
        )

    async def environment(self, organisation: str, name: str | None) -> Environment | None:
        """The environment of this name, or the default one."""
        wanted = {"organisation": organisation} | ({"default": True} if name is None else {"name": name})
        document = await self._environments.find_one(wanted)
        if document is None:
            await self._ensure_default(organisation)
            document = await self._environments.find_one(wanted)
        return Environment(document["_id"], document["name"]) if document else None

    async def _ensure_default(self, organisation: str) -> None:
        if await self._environments.find_one({"organisation": organisation, "default": True}, {"_id": 1}):
            return
        new = {
            "organisation": organisation,
            "name": DEFAULT_ENVIRONMENT,
            "default": True,
            "created_at": datetime.now(UTC),
        }
        derived = {"_id": ids.derive("env", organisation, DEFAULT_ENVIRONMENT)}
        with suppress(DuplicateKeyError):  # another caller made it
            await self._environments.update_one(derived, {"$setOnInsert": new}, upsert=True)

    async def deploy_first(self, organisation: str, project_id: str, environment_id: str, config_id: str) -> None:
        """Deploy where nothing is deployed; what is deployed already stays."""
        place = {"organisation": organisation, "project_id": project_id, "environment_id": environment_id}
        new = {"config_id": config_id, "deployed_at": datetime.now(UTC)}
        with suppress(DuplicateKeyError):  # another caller was first
            await self._deployments.update_one(place, {"$setOnInsert": new}, upsert=True)

    async def deployed(self, organisation: str, project_id: str, environment: str | None) -> Deployed | None:
        """What is active in the environment (None: the default one); None if there is no such environment."""
        place = await self.environment(organisation, environment)
        if place is None:
            return None
        document = await self._deployments.find_one(
            {"organisation": organisation, "project_id": project_id, "environment_id": place.id}
        )
        return Deployed(place.name, document["config_id"] if document else None)
