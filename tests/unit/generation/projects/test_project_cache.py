"""What the catalogue answers to those who ask for one thing at one moment."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from services.generation.projects.deployments import Deployer
from services.generation.projects.environments import EnvironmentSets
from services.generation.projects.invalidation import Invalidation
from services.generation.projects.project_cache import ProjectCache
from services.generation.projects.versions import version_id
from services.generation.store import Stores
from shared.contracts.projects import Config, ConfigVersion, ModelConfig, Project, ProjectRef
from shared.errors import NotFound

NOW = datetime(2024, 5, 20, tzinfo=UTC)
PROJECT = Project(id="pr_1", name="desk", config_type="model", created_at=NOW, updated_at=NOW)
CONFIG = ModelConfig(model="gpt-4")


class Slow:
    """Stores that have the project, and take their time to look for a version."""

    def __init__(self) -> None:
        self.looking, self.looked = asyncio.Event(), asyncio.Event()

    async def get_many(self, *_: object) -> Sequence[ConfigVersion]:
        self.looking.set()
        await self.looked.wait()
        return []

    async def find_or_insert(self, organisation: str, *given: object) -> tuple[object, bool]:
        if len(given) == 1:
            return PROJECT, False
        project_id, config_id, config = given
        assert (organisation, project_id) == ("tm_1", PROJECT.id)
        version = ConfigVersion(id=str(config_id), project_id=PROJECT.id, config=cast("Config", config), created_at=NOW)
        return version, False

    async def has_configs(self, *_: object) -> bool:
        return True


async def test_who_registers_a_config_is_not_told_that_it_was_not_found() -> None:
    slow = Slow()
    stores = cast("Stores", SimpleNamespace(projects=slow, versions=slow))
    invalidation = cast("Invalidation", SimpleNamespace(register=lambda _: None))
    project_cache = ProjectCache(stores, cast("EnvironmentSets", None), invalidation, cast("Deployer", None))
    config_id = version_id(PROJECT.id, CONFIG)
    asking = asyncio.create_task(project_cache.resolve("tm_1", ProjectRef(), config_id))
    await slow.looking.wait()
    registering = asyncio.create_task(project_cache.register("tm_1", ProjectRef(name="desk"), CONFIG, may_deploy=False))
    for _ in range(20):  # it has come to the version
        await asyncio.sleep(0)
    slow.looked.set()
    with pytest.raises(NotFound):
        await asking
    assert (await registering).version.id == config_id
