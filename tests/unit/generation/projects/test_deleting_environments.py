"""Deleting an environment: the environment goes first, then what was deployed in it is removed."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from services.generation.deps import Deps
from services.generation.handlers.environments import delete_environment
from services.generation.projects.environments import EnvironmentSet, initial_set
from services.generation.store import DeploymentTarget
from shared.contracts.generation.deployments import DeleteEnvironment
from shared.contracts.generation.projects import Project
from shared.errors import Conflict, NotFound
from shared.mongo import Session
from tests.audit_outbox import MemoryOutbox, as_outbox
from tests.principals import member

COMMAND = DeleteEnvironment(principal=member("tm_1"), id="env_1")


class Organisation:
    """An organisation with one environment beside the default one, and something deployed there in one project."""

    def __init__(self) -> None:
        self.kept = initial_set("tm_1").with_added("env_1", "staging", datetime(2024, 5, 20, tzinfo=UTC))
        self.deployed = ["pr_1"]
        self.done: list[str] = []
        self.made_default_while_saving = False
        stores = SimpleNamespace(deployments=self, projects=SimpleNamespace(get_many=self.get_projects))
        self.audit = MemoryOutbox()
        self.deps = cast(
            "Deps",
            SimpleNamespace(
                stores=stores, environments=self, deployments=self, invalidation=self, audit=as_outbox(self.audit)
            ),
        )

    async def get(self, _: str) -> EnvironmentSet:
        return self.kept

    async def save(self, after: EnvironmentSet, _: Session) -> bool:
        if self.made_default_while_saving:
            self.made_default_while_saving = False
            self.kept = self.kept.with_default("env_1")
        if after.revision != self.kept.revision + 1:
            return False
        self.kept = after
        self.done.append("saved")
        return True

    async def list_deployed_project_ids(self, *_: str) -> list[str]:
        return list(self.deployed)

    async def get_projects(self, *_: object) -> list[Project]:
        return []

    async def deploy(self, target: DeploymentTarget, *_: object) -> None:
        self.deployed.remove(target.project_id)
        self.done.append(f"emptied {target.project_id}")

    async def publish(self, *_: object) -> None:
        self.done.append("told")


async def test_an_environment_is_deleted_before_its_deployments_are_removed() -> None:
    organisation = Organisation()
    await delete_environment(COMMAND, organisation.deps)
    assert organisation.done == ["saved", "told", "emptied pr_1"]
    assert organisation.audit.actions == ["environment.deleted"]


async def test_an_environment_that_becomes_the_default_meanwhile_keeps_its_deployments() -> None:
    organisation = Organisation()
    organisation.made_default_while_saving = True
    with pytest.raises(Conflict):
        await delete_environment(COMMAND, organisation.deps)
    assert organisation.deployed == ["pr_1"]
    assert organisation.kept.default.id == "env_1"
    assert organisation.audit.actions == []


async def test_a_repeat_removes_the_deployments_a_crash_left_and_another_is_not_found() -> None:
    organisation = Organisation()
    organisation.kept = organisation.kept.without("env_1")
    await delete_environment(COMMAND, organisation.deps)
    assert organisation.deployed == []
    with pytest.raises(NotFound):
        await delete_environment(COMMAND, organisation.deps)
