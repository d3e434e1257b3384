"""A change that was made is answered as made, also when authz or logging is away."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from services.gateway.deps import Gateway
from services.gateway.routes import configs, projects
from services.gateway.schemas.configs import ProjectModelConfigRequest
from services.gateway.schemas.projects import CreateProjectRequest, UpdateProjectRequest
from shared.contracts.access import ListMembers, Member, Members
from shared.contracts.deployments import Undeploy
from shared.contracts.logs import GetConfigUse, GetUses
from shared.contracts.message import Done
from shared.contracts.principal import Principal
from shared.contracts.projects import (
    ConfigVersion,
    CreateProject,
    GetProject,
    ModelConfig,
    Project,
    ProjectDetails,
    Resolved,
    UpdateProject,
)
from shared.errors import Unavailable

NOW = datetime(2024, 5, 20, tzinfo=UTC)
CALLER = Principal(organisation="tm_1", role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org")
DETAILS = ProjectDetails(project=Project(id="pr_1", name="desk", created_at=NOW, updated_at=NOW), feedback_types=[])
MEMBERS = Members(members=[Member(user_id="usr_1", email="ada@example.org", full_name=None, role="Admin")])


class Others:
    """The services behind the bus: some questions have an answer, nobody is there for the others."""

    def __init__(self, *answers: tuple[type[BaseModel], BaseModel]) -> None:
        self.answers = dict(answers)
        self.asked: list[type[BaseModel]] = []

    async def request(self, request: BaseModel, **_: Any) -> BaseModel:
        self.asked.append(type(request))
        if type(request) not in self.answers:
            raise Unavailable("away")
        return self.answers[type(request)]

    @property
    def gateway(self) -> Gateway:
        """What a route gets."""
        project_cache = SimpleNamespace(forget=lambda *_: None, with_tools=_as_they_are)
        return cast("Gateway", SimpleNamespace(bus=self, project_cache=project_cache))


async def _as_they_are(_: str, versions: list[ConfigVersion]) -> list[ConfigVersion]:
    """Nothing is linked to."""
    return versions


async def test_a_project_is_not_made_when_the_answer_could_not_be_given() -> None:
    others = Others((CreateProject, DETAILS))
    with pytest.raises(Unavailable):
        await projects.create(CreateProjectRequest(name="desk"), CALLER, others.gateway)
    assert CreateProject not in others.asked


async def test_a_project_is_made_without_asking_for_the_logs_it_cannot_have() -> None:
    others = Others((ListMembers, MEMBERS), (CreateProject, DETAILS))
    made = await projects.create(CreateProjectRequest(name="desk"), CALLER, others.gateway)
    assert (made.id, made.data_count, [user.id for user in made.users]) == ("pr_1", 0, ["usr_1"])
    assert GetUses not in others.asked


async def test_a_change_is_answered_while_nobody_counts_logs() -> None:
    others = Others((ListMembers, MEMBERS), (UpdateProject, DETAILS), (GetProject, DETAILS), (Undeploy, Done()))
    changed = await projects.update("pr_1", UpdateProjectRequest(name="desk"), CALLER, others.gateway)
    assert (changed.name, changed.data_count) == ("desk", 0)
    emptied = await projects.deactivate_config("pr_1", CALLER, others.gateway)
    assert (emptied.active_config, emptied.data_count) == (None, 0)


async def test_a_config_is_registered_while_nobody_counts_logs() -> None:
    version = ConfigVersion(id="config_1", project_id="pr_1", config=ModelConfig(model="gpt-4"), created_at=NOW)

    class ProjectCache:
        async def resolve(self, *_: Any, **__: Any) -> Resolved:
            return Resolved(project=DETAILS.project, version=version)

        async def with_tools(self, _: str, found: ConfigVersion) -> ConfigVersion:
            return found

    others = Others()
    gateway = cast("Gateway", SimpleNamespace(bus=others, project_cache=ProjectCache()))
    body = ProjectModelConfigRequest(project="desk", model="gpt-4")
    made = await configs.register(body, CALLER, gateway)
    assert (made.config.id, made.num_datapoints, made.last_used) == ("config_1", 0, NOW)
    assert others.asked == [GetConfigUse]


async def test_nothing_is_changed_while_authz_is_away() -> None:
    others = Others((UpdateProject, DETAILS), (GetProject, DETAILS), (Undeploy, Done()))
    with pytest.raises(Unavailable):
        await projects.update("pr_1", UpdateProjectRequest(name="desk"), CALLER, others.gateway)
    with pytest.raises(Unavailable):
        await projects.deactivate_config("pr_1", CALLER, others.gateway)
    assert others.asked == [ListMembers, ListMembers]
