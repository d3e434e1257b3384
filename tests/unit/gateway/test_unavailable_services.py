"""What routes of projects and configs do while authz or logging is unavailable."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from services.gateway.deps import Gateway
from services.gateway.routes import configs, projects
from services.gateway.schemas.configs import ProjectModelConfigRequest
from services.gateway.schemas.projects import CreateProjectRequest, UpdateProjectRequest
from shared.contracts.access.members import ListMembers, Member, Members
from shared.contracts.generation.deployments import Undeploy
from shared.contracts.generation.projects import (
    ConfigVersion,
    CreateProject,
    GetProject,
    ModelConfig,
    Project,
    ProjectDetails,
    ResolvedConfig,
    UpdateProject,
)
from shared.contracts.logs import GetConfigUse, GetUses
from shared.contracts.message import Done
from shared.contracts.principal import Principal
from shared.errors import Unavailable

NOW = datetime(2024, 5, 20, tzinfo=UTC)
CALLER = Principal(organisation="tm_1", role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org")
DETAILS = ProjectDetails(project=Project(id="pr_1", name="desk", created_at=NOW, updated_at=NOW), feedback_types=[])
MEMBERS = Members(members=[Member(user_id="usr_1", email="ada@example.org", full_name=None, role="Admin")])


class FakeBus:
    """A bus that answers some requests, and raises Unavailable for the rest."""

    def __init__(self, *answers: tuple[type[BaseModel], BaseModel]) -> None:
        self.answers = dict(answers)
        self.requests: list[type[BaseModel]] = []

    async def request(self, request: BaseModel, **_: Any) -> BaseModel:
        self.requests.append(type(request))
        if type(request) not in self.answers:
            raise Unavailable("unavailable")
        return self.answers[type(request)]

    @property
    def gateway(self) -> Gateway:
        """The gateway that a route gets."""
        project_cache = SimpleNamespace(invalidate=lambda *_: None, fill_linked_tools=_without_links)
        return cast("Gateway", SimpleNamespace(bus=self, project_cache=project_cache))


async def _without_links(_: str, versions: list[ConfigVersion]) -> list[ConfigVersion]:
    """Return the versions as they are: they link to no tools."""
    return versions


async def test_a_project_is_not_created_while_authz_is_unavailable() -> None:
    bus = FakeBus((CreateProject, DETAILS))
    with pytest.raises(Unavailable):
        await projects.create(CreateProjectRequest(name="desk"), CALLER, bus.gateway)
    assert CreateProject not in bus.requests


async def test_creating_a_project_does_not_request_log_counts() -> None:
    bus = FakeBus((ListMembers, MEMBERS), (CreateProject, DETAILS))
    made = await projects.create(CreateProjectRequest(name="desk"), CALLER, bus.gateway)
    assert (made.id, made.data_count, [user.id for user in made.users]) == ("pr_1", 0, ["usr_1"])
    assert GetUses not in bus.requests


async def test_a_change_of_a_project_is_answered_while_logging_is_unavailable() -> None:
    bus = FakeBus((ListMembers, MEMBERS), (UpdateProject, DETAILS), (GetProject, DETAILS), (Undeploy, Done()))
    changed = await projects.update("pr_1", UpdateProjectRequest(name="desk"), CALLER, bus.gateway)
    assert (changed.name, changed.data_count) == ("desk", 0)
    emptied = await projects.deactivate_config("pr_1", CALLER, bus.gateway)
    assert (emptied.active_config, emptied.data_count) == (None, 0)


async def test_a_config_is_registered_while_logging_is_unavailable() -> None:
    version = ConfigVersion(id="config_1", project_id="pr_1", config=ModelConfig(model="gpt-4"), created_at=NOW)

    class ProjectCache:
        async def resolve(self, *_: Any, **__: Any) -> ResolvedConfig:
            return ResolvedConfig(project=DETAILS.project, version=version)

        async def fill_linked_tools(self, _: str, found: ConfigVersion) -> ConfigVersion:
            return found

    async def may_deploy(_: Principal) -> bool:
        return True

    bus = FakeBus()
    gateway = cast("Gateway", SimpleNamespace(bus=bus, project_cache=ProjectCache(), may_deploy=may_deploy))
    body = ProjectModelConfigRequest(project="desk", model="gpt-4")
    made = await configs.register(body, CALLER, gateway)
    assert (made.config.id, made.num_datapoints, made.last_used) == ("config_1", 0, NOW)
    assert bus.requests == [GetConfigUse]


async def test_a_project_is_not_changed_while_authz_is_unavailable() -> None:
    bus = FakeBus((UpdateProject, DETAILS), (GetProject, DETAILS), (Undeploy, Done()))
    with pytest.raises(Unavailable):
        await projects.update("pr_1", UpdateProjectRequest(name="desk"), CALLER, bus.gateway)
    with pytest.raises(Unavailable):
        await projects.deactivate_config("pr_1", CALLER, bus.gateway)
    assert bus.requests == [ListMembers, ListMembers]
