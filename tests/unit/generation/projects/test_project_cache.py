"""ProjectCache: what is created, what is deployed first, what is cached, and what each change invalidates."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.generation.projects.deployments import Deployer
from services.generation.projects.environments import EnvironmentSet, EnvironmentSets, initial_set
from services.generation.projects.invalidation import InvalidateCallback, Invalidation
from services.generation.projects.project_cache import ProjectCache
from services.generation.projects.versions import version_id
from services.generation.store import DeploymentTarget, StoredProject, Stores
from services.generation.store.deployments import NEVER_DEPLOYED, LatestDeployment
from shared.contracts.generation.projects import Config, ConfigVersion, ModelConfig, Project, ProjectChanged, ProjectRef
from shared.contracts.principal import Actor
from shared.errors import Invalid, NotFound

NOW = datetime(2024, 5, 20, tzinfo=UTC)
CONFIG, OTHER_CONFIG = ModelConfig(model="gpt-4"), ModelConfig(model="gpt-4o")
DESK = ProjectRef(name="desk")
ADA = Actor(user_id="usr_1", email="ada@example.org")


class Memory:
    """The stores, environments, deployer and invalidation of one organisation, in dictionaries.

    `reads` counts the reads of projects, versions and deployments; `steps` has what is written and published.
    """

    def __init__(self) -> None:
        self.projects: dict[str, Project] = {}
        self.versions: dict[str, ConfigVersion] = {}
        self.deployed: dict[DeploymentTarget, LatestDeployment] = {}
        self.environments = initial_set("tm_1").with_added("env_staging", "staging", NOW)
        self.reads = 0
        self.steps: list[str] = []
        self.actors: list[Actor | None] = []
        self.marked_deleted: set[str] = set()
        self.callback: InvalidateCallback | None = None
        self.block_next_read: asyncio.Event | None = None
        """If set, the next read waits for it, and sets `reading` before."""
        self.reading = asyncio.Event()
        stores = SimpleNamespace(
            projects=SimpleNamespace(
                get=self._get_project, find_by_name=self._find_by_name, find_or_insert=self._find_or_insert_project,
                update_modified_time=self._update_modified_time, has_configs=self._has_configs,
                save_first_config=self._save_first_config,
            ),
            versions=SimpleNamespace(
                get_many=self._get_versions, find_or_insert=self._find_or_insert_version,
                delete_by_project=self._delete_versions,
            ),
            deployments=SimpleNamespace(get_latest=self._get_latest),
        )  # fmt: skip
        self.cache = ProjectCache(
            cast("Stores", stores),
            cast("EnvironmentSets", SimpleNamespace(get=self._get_environments)),
            cast("Invalidation", SimpleNamespace(register=self._register, publish=self._publish)),
            cast("Deployer", SimpleNamespace(deploy_first=self._deploy_first)),
        )

    def add_project(self, name: str, **fields: Any) -> Project:
        project = Project(id=f"pr_{name}", name=name, created_at=NOW, updated_at=NOW, **fields)
        self.projects[project.id] = project
        return project

    def deploy(self, project_id: str, environment_id: str, config_id: str | None) -> None:
        self.deployed[DeploymentTarget("tm_1", project_id, environment_id)] = LatestDeployment("dep_1", 1, config_id)

    def invalidate(self, change: ProjectChanged | None) -> None:
        assert self.callback
        self.callback(change)

    async def _read(self) -> None:
        self.reads += 1
        if (released := self.block_next_read) is not None:
            self.block_next_read = None
            self.reading.set()
            await released.wait()

    async def _get_project(self, organisation: str, project_id: str) -> StoredProject | None:
        await self._read()
        project = self.projects.get(project_id) if organisation == "tm_1" else None
        return StoredProject(project, [], 0) if project else None

    async def _find_by_name(self, organisation: str, name: str) -> Project | None:
        await self._read()
        named = (project for project in self.projects.values() if project.name == name)
        return next(named, None) if organisation == "tm_1" else None

    async def _find_or_insert_project(self, organisation: str, name: str) -> tuple[Project, bool]:
        if found := await self._find_by_name(organisation, name):
            return found, False
        return self.add_project(name), True

    async def _update_modified_time(self, _: str, project_id: str, at: datetime) -> bool:
        if project_id in self.marked_deleted:
            return False
        self.projects[project_id] = self.projects[project_id].model_copy(update={"updated_at": at})
        return True

    async def _has_configs(self, _: str, project_id: str) -> bool:
        return self.projects[project_id].config_type is not None

    async def _save_first_config(self, _: str, project_id: str, config_id: str, config: Config) -> None:
        self.steps.append(f"first config of {project_id}")
        assert config_id in self.versions
        self.projects[project_id] = self.projects[project_id].model_copy(update={"config_type": config.type})

    async def _get_versions(self, organisation: str, config_ids: list[str]) -> list[ConfigVersion]:
        await self._read()
        assert organisation == "tm_1"
        return [self.versions[config_id] for config_id in config_ids if config_id in self.versions]

    async def _find_or_insert_version(
        self, _: str, project_id: str, config_id: str, config: Config
    ) -> tuple[ConfigVersion, bool]:
        self.reads += 1
        inserted = config_id not in self.versions
        if inserted:
            version = ConfigVersion(id=config_id, project_id=project_id, config=config, created_at=NOW)
            self.versions[config_id] = version
        return self.versions[config_id], inserted

    async def _delete_versions(self, _: str, project_id: str) -> None:
        self.versions = {key: version for key, version in self.versions.items() if version.project_id != project_id}

    async def _get_latest(self, target: DeploymentTarget) -> LatestDeployment:
        self.reads += 1
        return self.deployed.get(target, NEVER_DEPLOYED)

    async def _get_environments(self, _: str) -> EnvironmentSet:
        return self.environments

    async def _deploy_first(self, target: DeploymentTarget, config_id: str, actor: Actor | None) -> None:
        self.steps.append(f"deployed to {self.environments.get(target.environment_id).name} by {actor and actor.email}")
        self.deploy(target.project_id, target.environment_id, config_id)

    def _register(self, callback: InvalidateCallback) -> None:
        self.callback = callback

    async def _publish(self, change: ProjectChanged, *_: str) -> None:
        self.steps.append(f"published {change.what}")
        self.actors.append(change.actor)
        self.invalidate(change)


@pytest.fixture
def memory() -> Memory:
    return Memory()


async def test_the_first_config_creates_the_project_and_is_deployed_to_the_default_environment(memory: Memory) -> None:
    resolved = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True, actor=ADA)
    assert (resolved.project.id, resolved.project.config_type) == ("pr_desk", "model")
    assert resolved.version.id == version_id("pr_desk", CONFIG)
    assert memory.steps == [
        "published created",
        "deployed to production by ada@example.org",
        "first config of pr_desk",
        "published configured",
    ]
    assert memory.actors[-1] == ADA


async def test_the_first_config_of_an_author_who_may_not_deploy_is_not_deployed(memory: Memory) -> None:
    await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    assert memory.deployed == {}
    assert memory.steps == ["published created", "first config of pr_desk", "published configured"]


async def test_a_second_config_is_not_deployed(memory: Memory) -> None:
    await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    memory.steps.clear()
    second = await memory.cache.register("tm_1", DESK, OTHER_CONFIG, may_deploy=True)
    assert second.version.config == OTHER_CONFIG
    assert memory.steps == []


async def test_a_known_config_reads_nothing(memory: Memory) -> None:
    first = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    memory.reads = 0
    assert await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True) == first
    assert memory.reads == 0


async def test_a_crash_before_the_first_config_is_saved_is_made_good_by_the_next_registration(memory: Memory) -> None:
    await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    memory.projects["pr_desk"] = memory.projects["pr_desk"].model_copy(update={"config_type": None})
    memory.invalidate(ProjectChanged(organisation="tm_1", project_id="pr_desk", what="renamed"))
    memory.steps.clear()
    resolved = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True, actor=ADA)
    assert resolved.project.config_type == "model"
    assert "first config of pr_desk" in memory.steps


async def test_a_version_inserted_while_its_project_is_deleted_is_deleted_again(memory: Memory) -> None:
    memory.add_project("desk")
    memory.marked_deleted.add("pr_desk")
    with pytest.raises(NotFound, match="'pr_desk' was deleted at this moment"):
        await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    assert memory.versions == {}


async def test_registering_a_config_does_not_share_a_read_that_finds_nothing(memory: Memory) -> None:
    memory.add_project("desk", config_type="model")
    release = memory.block_next_read = asyncio.Event()
    config_id = version_id("pr_desk", CONFIG)
    asking = asyncio.create_task(memory.cache.resolve("tm_1", ProjectRef(), config_id))
    await memory.reading.wait()
    async with asyncio.timeout(2):
        registered = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    assert registered.version.id == config_id
    memory.versions.clear()
    release.set()
    with pytest.raises(NotFound, match=config_id):
        await asking


async def test_registering_a_project_does_not_share_a_read_that_finds_nothing(memory: Memory) -> None:
    release = memory.block_next_read = asyncio.Event()
    asking = asyncio.create_task(memory.cache.resolve_deployed("tm_1", DESK, None))
    await memory.reading.wait()
    async with asyncio.timeout(2):
        registered = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    assert registered.project.name == "desk"
    memory.projects.clear()
    release.set()
    with pytest.raises(NotFound, match="'desk'"):
        await asking


async def test_a_config_is_resolved_with_its_project_whichever_way_the_project_is_named(memory: Memory) -> None:
    registered = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    for ref in (ProjectRef(), DESK, ProjectRef(id="pr_desk"), ProjectRef(id="pr_desk", name="desk")):
        assert await memory.cache.resolve("tm_1", ref, registered.version.id) == registered


async def test_a_config_of_another_project_is_refused(memory: Memory) -> None:
    registered = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    memory.add_project("shop")
    with pytest.raises(Invalid, match=r"does not belong to the project 'shop' \(pr_shop\)"):
        await memory.cache.resolve("tm_1", ProjectRef(name="shop"), registered.version.id)


@pytest.mark.parametrize(
    ("ref", "problem", "message"),
    [
        (ProjectRef(), Invalid, "either project .* or project_id is needed"),
        (ProjectRef(id="pr_gone"), NotFound, "no project 'pr_gone'"),
        (ProjectRef(id="pr_desk", name="shop"), Invalid, "'shop' and project_id 'pr_desk' are not the same"),
        (ProjectRef(name="x" * 256), Invalid, "at most 255 characters"),
    ],
)
async def test_a_project_that_cannot_be_found_or_created_is_refused(
    memory: Memory, ref: ProjectRef, problem: type[Exception], message: str
) -> None:
    memory.add_project("desk")
    with pytest.raises(problem, match=message):
        await memory.cache.register("tm_1", ref, CONFIG, may_deploy=False)
    assert list(memory.projects) == ["pr_desk"]


async def test_an_existing_project_with_a_long_name_stays_usable(memory: Memory) -> None:
    memory.add_project("x" * 256)
    resolved = await memory.cache.register("tm_1", ProjectRef(name="x" * 256), CONFIG, may_deploy=False)
    assert resolved.project.name == "x" * 256


async def test_only_registering_creates_a_project(memory: Memory) -> None:
    with pytest.raises(NotFound, match="no project 'desk'"):
        await memory.cache.resolve_deployed("tm_1", DESK, None)
    assert memory.projects == {}


@pytest.mark.parametrize(("environment", "name"), [(None, "production"), ("staging", "staging")])
async def test_what_is_deployed_is_resolved_with_the_environments_name_and_cached(
    memory: Memory, environment: str | None, name: str
) -> None:
    registered = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    memory.deploy("pr_desk", memory.environments.get_by_name(name).id, registered.version.id)
    assert await memory.cache.resolve_deployed("tm_1", DESK, environment) == (registered, name)
    memory.reads = 0
    assert await memory.cache.resolve_deployed("tm_1", DESK, environment) == (registered, name)
    assert memory.reads == 0


async def test_each_environment_has_its_own_deployment(memory: Memory) -> None:
    first = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    second = await memory.cache.register("tm_1", DESK, OTHER_CONFIG, may_deploy=False)
    memory.deploy("pr_desk", "env_staging", second.version.id)
    assert await memory.cache.resolve_deployed("tm_1", DESK, None) == (first, "production")
    assert await memory.cache.resolve_deployed("tm_1", DESK, "staging") == (second, "staging")


async def test_nothing_deployed_is_not_found_with_the_names(memory: Memory) -> None:
    memory.add_project("desk")
    memory.deploy("pr_desk", "env_staging", None)
    for environment, name in ((None, "production"), ("staging", "staging")):
        with pytest.raises(NotFound, match=f"'desk' has nothing deployed in '{name}'"):
            await memory.cache.resolve_deployed("tm_1", DESK, environment)


@pytest.mark.parametrize(
    ("change", "reads"),
    [
        (("tm_1", "pr_desk", "renamed"), {"project", "deployed"}),
        (("tm_1", "pr_desk", "deployed"), {"project", "deployed"}),
        (("tm_1", "pr_desk", "deleted"), {"project", "deployed", "version"}),
        (("tm_1", None, "environments"), {"deployed"}),
        (("tm_1", "pr_other", "deleted"), set()),
        (("tm_2", "pr_desk", "deleted"), set()),
        (("tm_2", None, "environments"), set()),
        (None, {"project", "deployed", "version"}),
    ],
)
async def test_a_change_invalidates_what_it_concerns(
    memory: Memory, change: tuple[str, str | None, str] | None, reads: set[str]
) -> None:
    registered = await memory.cache.register("tm_1", DESK, CONFIG, may_deploy=True)

    async def read() -> set[str]:
        """Read everything through the cache; return what was read from the stores."""
        read: set[str] = set()
        memory.reads = 0
        await memory.cache.get_version("tm_1", registered.version.id)
        read |= {"version"} if memory.reads else set()
        memory.reads = 0
        await memory.cache.resolve("tm_1", DESK, registered.version.id)
        read |= {"project"} if memory.reads else set()
        memory.reads = 0
        await memory.cache.resolve_deployed("tm_1", DESK, None)
        return read | ({"deployed"} if memory.reads else set())

    await read()
    assert await read() == set()
    memory.invalidate(
        change
        and ProjectChanged.model_validate({"organisation": change[0], "project_id": change[1], "what": change[2]})
    )
    assert await read() == reads
