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
from shared.blobs import TOKEN
from shared.contracts.generation.projects import Config, ConfigVersion, ModelConfig, Project, ProjectChanged, ProjectRef
from shared.contracts.principal import Actor, Principal
from shared.errors import Invalid, NotFound
from shared.mongo import Session
from tests.audit_outbox import MemoryOutbox, as_outbox

NOW = datetime(2024, 5, 20, tzinfo=UTC)
CONFIG, OTHER_CONFIG = ModelConfig(model="gpt-4"), ModelConfig(model="gpt-4o")
DESK = ProjectRef(name="desk")
PRINCIPAL = Principal(user_id="usr_1", email="ada@example.org", organisation="tm_1", role="Developer")
ADA = PRINCIPAL.actor


class InMemoryStores:
    """The stores, environments, deployer and invalidation of one organisation, in dictionaries.

    `reads` counts the reads of projects, versions and deployments; `steps` has what is written and published.
    """

    def __init__(self) -> None:
        self.projects: dict[str, Project] = {}
        self.versions: dict[str, ConfigVersion] = {}
        self.deployed: dict[DeploymentTarget, LatestDeployment] = {}
        self.environments = initial_set("tm_1").with_added("env_staging", "staging", NOW)
        self.audit = MemoryOutbox()
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
                get=self._get_project, find_by_name=self._find_by_name, insert_named=self._insert_named,
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
            as_outbox(self.audit),
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

    async def _insert_named(self, _: str, name: str, __: Session) -> str | None:
        taken = any(project.name == name for project in self.projects.values())
        return None if taken else self.add_project(name).id

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
def stores() -> InMemoryStores:
    return InMemoryStores()


async def test_the_first_config_creates_the_project_and_is_deployed_to_the_default_environment(
    stores: InMemoryStores,
) -> None:
    resolved = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True, principal=PRINCIPAL)
    assert (resolved.project.id, resolved.project.config_type) == ("pr_desk", "model")
    assert resolved.version.id == version_id("pr_desk", CONFIG)
    assert stores.steps == [
        "published created",
        "deployed to production by ada@example.org",
        "first config of pr_desk",
        "published configured",
    ]
    assert stores.actors[-1] == ADA


async def test_the_first_config_of_an_author_who_may_not_deploy_is_not_deployed(stores: InMemoryStores) -> None:
    await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    assert stores.deployed == {}
    assert stores.steps == ["published created", "first config of pr_desk", "published configured"]


async def test_a_second_config_is_not_deployed(stores: InMemoryStores) -> None:
    await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    stores.steps.clear()
    second = await stores.cache.register("tm_1", DESK, OTHER_CONFIG, may_deploy=True)
    assert second.version.config == OTHER_CONFIG
    assert stores.steps == []


async def test_a_known_config_reads_nothing(stores: InMemoryStores) -> None:
    first = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    stores.reads = 0
    assert await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True) == first
    assert stores.reads == 0


async def test_a_crash_before_the_first_config_is_saved_is_made_good_by_the_next_registration(
    stores: InMemoryStores,
) -> None:
    await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    stores.projects["pr_desk"] = stores.projects["pr_desk"].model_copy(update={"config_type": None})
    stores.invalidate(ProjectChanged(organisation="tm_1", project_id="pr_desk", what="renamed"))
    stores.steps.clear()
    resolved = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True, principal=PRINCIPAL)
    assert resolved.project.config_type == "model"
    assert "first config of pr_desk" in stores.steps


async def test_a_version_inserted_while_its_project_is_deleted_is_deleted_again(stores: InMemoryStores) -> None:
    stores.add_project("desk")
    stores.marked_deleted.add("pr_desk")
    with pytest.raises(NotFound, match="'pr_desk' was deleted at this moment"):
        await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    assert stores.versions == {}


async def test_registering_a_config_does_not_share_a_read_that_finds_nothing(stores: InMemoryStores) -> None:
    stores.add_project("desk", config_type="model")
    release = stores.block_next_read = asyncio.Event()
    config_id = version_id("pr_desk", CONFIG)
    asking = asyncio.create_task(stores.cache.resolve("tm_1", ProjectRef(), config_id))
    await stores.reading.wait()
    async with asyncio.timeout(2):
        registered = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    assert registered.version.id == config_id
    stores.versions.clear()
    release.set()
    with pytest.raises(NotFound, match=config_id):
        await asking


async def test_registering_a_project_does_not_share_a_read_that_finds_nothing(stores: InMemoryStores) -> None:
    release = stores.block_next_read = asyncio.Event()
    asking = asyncio.create_task(stores.cache.resolve_deployed("tm_1", DESK, None))
    await stores.reading.wait()
    async with asyncio.timeout(2):
        registered = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    assert registered.project.name == "desk"
    stores.projects.clear()
    release.set()
    with pytest.raises(NotFound, match="'desk'"):
        await asking


async def test_a_config_is_resolved_with_its_project_whichever_way_the_project_is_named(stores: InMemoryStores) -> None:
    registered = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    for ref in (ProjectRef(), DESK, ProjectRef(id="pr_desk"), ProjectRef(id="pr_desk", name="desk")):
        assert await stores.cache.resolve("tm_1", ref, registered.version.id) == registered


async def test_a_config_of_another_project_is_refused(stores: InMemoryStores) -> None:
    registered = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    stores.add_project("shop")
    with pytest.raises(Invalid, match=r"does not belong to the project 'shop' \(pr_shop\)"):
        await stores.cache.resolve("tm_1", ProjectRef(name="shop"), registered.version.id)


@pytest.mark.parametrize(
    ("ref", "problem", "message"),
    [
        (ProjectRef(), Invalid, "either project .* or project_id is needed"),
        (ProjectRef(id="pr_gone"), NotFound, "no project 'pr_gone'"),
        (ProjectRef(id="pr_desk", name="shop"), Invalid, "'shop' and project_id 'pr_desk' are not the same"),
        (ProjectRef(name="x" * 256), Invalid, "at most 255 characters"),
        (ProjectRef(name=f"data:image/png;base64,{TOKEN}{'0' * 64}"), Invalid, "at most 255 characters"),
    ],
)
async def test_a_project_that_cannot_be_found_or_created_is_refused(
    stores: InMemoryStores, ref: ProjectRef, problem: type[Exception], message: str
) -> None:
    stores.add_project("desk")
    with pytest.raises(problem, match=message):
        await stores.cache.register("tm_1", ref, CONFIG, may_deploy=False)
    assert list(stores.projects) == ["pr_desk"]


async def test_an_existing_project_with_a_long_name_stays_usable(stores: InMemoryStores) -> None:
    stores.add_project("x" * 256)
    resolved = await stores.cache.register("tm_1", ProjectRef(name="x" * 256), CONFIG, may_deploy=False)
    assert resolved.project.name == "x" * 256


async def test_only_registering_creates_a_project(stores: InMemoryStores) -> None:
    with pytest.raises(NotFound, match="no project 'desk'"):
        await stores.cache.resolve_deployed("tm_1", DESK, None)
    assert stores.projects == {}


@pytest.mark.parametrize(("environment", "name"), [(None, "production"), ("staging", "staging")])
async def test_what_is_deployed_is_resolved_with_the_environments_name_and_cached(
    stores: InMemoryStores, environment: str | None, name: str
) -> None:
    registered = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=False)
    stores.deploy("pr_desk", stores.environments.get_by_name(name).id, registered.version.id)
    assert await stores.cache.resolve_deployed("tm_1", DESK, environment) == (registered, name)
    stores.reads = 0
    assert await stores.cache.resolve_deployed("tm_1", DESK, environment) == (registered, name)
    assert stores.reads == 0


async def test_each_environment_has_its_own_deployment(stores: InMemoryStores) -> None:
    first = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True)
    second = await stores.cache.register("tm_1", DESK, OTHER_CONFIG, may_deploy=False)
    stores.deploy("pr_desk", "env_staging", second.version.id)
    assert await stores.cache.resolve_deployed("tm_1", DESK, None) == (first, "production")
    assert await stores.cache.resolve_deployed("tm_1", DESK, "staging") == (second, "staging")


async def test_nothing_deployed_is_not_found_with_the_names(stores: InMemoryStores) -> None:
    stores.add_project("desk")
    stores.deploy("pr_desk", "env_staging", None)
    for environment, name in ((None, "production"), ("staging", "staging")):
        with pytest.raises(NotFound, match=f"'desk' has nothing deployed in '{name}'"):
            await stores.cache.resolve_deployed("tm_1", DESK, environment)


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
    stores: InMemoryStores, change: tuple[str, str | None, str] | None, reads: set[str]
) -> None:
    registered = await stores.cache.register("tm_1", DESK, CONFIG, may_deploy=True)

    async def read() -> set[str]:
        """Read everything through the cache; return what was read from the stores."""
        read: set[str] = set()
        stores.reads = 0
        await stores.cache.get_version("tm_1", registered.version.id)
        read |= {"version"} if stores.reads else set()
        stores.reads = 0
        await stores.cache.resolve("tm_1", DESK, registered.version.id)
        read |= {"project"} if stores.reads else set()
        stores.reads = 0
        await stores.cache.resolve_deployed("tm_1", DESK, None)
        return read | ({"deployed"} if stores.reads else set())

    await read()
    assert await read() == set()
    stores.invalidate(
        change
        and ProjectChanged.model_validate({"organisation": change[0], "project_id": change[1], "what": change[2]})
    )
    assert await read() == reads
