"""Deployer: what is stored and published when a config is deployed or removed."""

from typing import Any, cast

import pytest

from services.generation.projects.deployments import Deployer
from services.generation.projects.invalidation import Invalidation
from services.generation.store import DeploymentStore, DeploymentTarget
from services.generation.store.deployments import NEVER_DEPLOYED, LatestDeployment
from shared.contracts.generation.projects import ProjectChanged
from shared.contracts.principal import Actor, Principal
from shared.errors import Unavailable
from shared.mongo import Session
from tests.audit_outbox import MemoryOutbox, as_outbox

TARGET = DeploymentTarget("tm_1", "pr_1", "env_1")
PRINCIPAL = Principal(user_id="usr_1", email="ada@example.org", organisation="tm_1", role="Admin", address="192.0.2.1")
ADA = PRINCIPAL.actor


class MemoryDeployments:
    """DeploymentStore of one target; `concurrent` configs are deployed by others, each just before the next insert."""

    def __init__(self, *config_ids: str | None) -> None:
        self.history: list[LatestDeployment] = []
        self.actors: list[Actor | None] = []
        self.concurrent: list[str] = []
        for config_id in config_ids:
            self._append(config_id, None)

    def _append(self, config_id: str | None, actor: Actor | None) -> LatestDeployment:
        number = len(self.history) + 1
        self.history.append(LatestDeployment(f"dep_{number}", number, config_id))
        self.actors.append(actor)
        return self.history[-1]

    @property
    def config_ids(self) -> list[str | None]:
        return [change.config_id for change in self.history]

    async def get_latest(self, target: DeploymentTarget) -> LatestDeployment:
        assert target == TARGET
        return self.history[-1] if self.history else NEVER_DEPLOYED

    async def insert_next(
        self,
        target: DeploymentTarget,
        previous: LatestDeployment,
        config_id: str | None,
        actor: Actor | None,
        _: Session,
    ) -> LatestDeployment | None:
        assert target == TARGET
        if self.concurrent:
            self._append(self.concurrent.pop(0), None)
        latest = await self.get_latest(target)
        return None if previous != latest else self._append(config_id, actor)


class Published:
    """Invalidation that records (what, cause) of each change, and fails while `away`."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, tuple[str, ...]]] = []
        self.actors: list[Actor | None] = []
        self.away = False

    async def publish(self, change: ProjectChanged, *cause: str) -> None:
        if self.away:
            raise Unavailable("The bus is away.")
        assert (change.organisation, change.project_id) == ("tm_1", "pr_1")
        self.changes.append((change.what, cause))
        self.actors.append(change.actor)


@pytest.fixture
def published() -> Published:
    return Published()


def deployer(store: MemoryDeployments, published: Published, audit: MemoryOutbox | None = None) -> Deployer:
    return Deployer(cast("DeploymentStore", store), cast("Invalidation", published), as_outbox(audit))


async def test_deploying_stores_the_change_with_its_actor_and_publishes_it(published: Published) -> None:
    store = MemoryDeployments()
    await deployer(store, published).deploy(TARGET, "config_1", PRINCIPAL)
    assert (store.config_ids, store.actors) == (["config_1"], [ADA])
    assert published.changes == [("deployed", ("dep_1",))]
    assert published.actors == [ADA]


async def test_removing_stores_a_change_without_a_config(published: Published) -> None:
    store = MemoryDeployments("config_1")
    await deployer(store, published).deploy(TARGET, None, PRINCIPAL)
    assert store.config_ids == ["config_1", None]
    assert published.changes == [("undeployed", ("dep_2",))]


@pytest.mark.parametrize(("config_id", "what"), [("config_1", "deployed"), (None, "undeployed")])
async def test_what_is_so_already_is_published_again_and_not_stored(
    published: Published, config_id: str | None, what: str
) -> None:
    store = MemoryDeployments("config_0", config_id)
    await deployer(store, published).deploy(TARGET, config_id, PRINCIPAL)
    assert store.config_ids == ["config_0", config_id]
    assert published.changes == [(what, ("dep_2",))]


async def test_removing_where_nothing_was_ever_deployed_changes_nothing(published: Published) -> None:
    store = MemoryDeployments()
    await deployer(store, published).deploy(TARGET, None, PRINCIPAL)
    assert store.history == []
    assert published.changes == []


async def test_a_repeat_after_publishing_failed_publishes_the_same_change(published: Published) -> None:
    store = MemoryDeployments()
    published.away = True
    with pytest.raises(Unavailable):
        await deployer(store, published).deploy(TARGET, "config_1", PRINCIPAL)
    published.away = False
    await deployer(store, published).deploy(TARGET, "config_1", PRINCIPAL)
    assert store.config_ids == ["config_1"]
    assert published.changes == [("deployed", ("dep_1",))]


async def test_a_change_that_loses_to_others_is_decided_again_on_theirs(published: Published) -> None:
    store = MemoryDeployments("config_0")
    store.concurrent = ["config_a", "config_b"]
    await deployer(store, published).deploy(TARGET, "config_1", PRINCIPAL)
    assert store.config_ids == ["config_0", "config_a", "config_b", "config_1"]
    assert published.changes == [("deployed", ("dep_4",))]


async def test_a_first_deployment_is_stored_and_published(published: Published) -> None:
    store = MemoryDeployments()
    await deployer(store, published).deploy_first(TARGET, "config_1", PRINCIPAL)
    assert (store.config_ids, store.actors) == (["config_1"], [ADA])
    assert published.changes == [("deployed", ("dep_1",))]


@pytest.mark.parametrize("history", [("config_0",), ("config_0", None)], ids=["deployed", "removed"])
async def test_a_first_deployment_changes_nothing_where_something_was_deployed(
    published: Published, history: tuple[Any, ...]
) -> None:
    store = MemoryDeployments(*history)
    await deployer(store, published).deploy_first(TARGET, "config_1", PRINCIPAL)
    assert store.config_ids == list(history)
    assert published.changes == []


async def test_a_first_deployment_gives_way_to_one_at_the_same_moment(published: Published) -> None:
    store = MemoryDeployments()
    store.concurrent = ["config_a"]
    await deployer(store, published).deploy_first(TARGET, "config_1", PRINCIPAL)
    assert store.config_ids == ["config_a"]
    assert published.changes == []
