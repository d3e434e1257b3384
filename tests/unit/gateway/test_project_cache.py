"""What the catalogue asks generation, with a bus written by hand."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.gateway import project_cache as module
from services.gateway.project_cache import ProjectCache
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.contracts.chat import LinkedTool
from shared.contracts.message import Request
from shared.contracts.principal import Principal
from shared.contracts.projects import (
    ConfigVersion,
    GetVersions,
    ModelConfig,
    Project,
    ProjectChanged,
    ProjectRef,
    Resolve,
    Resolved,
    Versions,
)
from shared.contracts.tools import GetTools, JsonSchema, Tool, Tools
from shared.errors import Internal, Problem, TooLarge, Unavailable

NOW = datetime(2024, 1, 1, tzinfo=UTC)
CALLER = Principal(organisation="tm_1", role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org")


class HandmadeBus:
    """Knows every config and tool; `most` tools fit into a message."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.resolved: list[Resolve] = []
        self.most = 1000
        self.problem: Problem | None = None

    async def request(self, request: Request[Any]) -> Any:
        if isinstance(request, GetVersions):
            return Versions(versions=[version(config_id) for config_id in request.ids])
        if isinstance(request, Resolve):
            self.resolved.append(request)
            assert isinstance(request.config, ModelConfig)
            made = ConfigVersion(id=request.config.model, project_id="pr_1", created_at=NOW, config=request.config)
            return Resolved(project=Project(id="pr_1", name="p", created_at=NOW, updated_at=NOW), version=made)
        assert isinstance(request, GetTools)
        self.asked.append(request.ids)
        if self.problem:
            raise self.problem
        if len(request.ids) > self.most:
            raise TooLarge("too much")
        return Tools(tools=[tool(tool_id) for tool_id in request.ids])


def tool(tool_id: str) -> Tool:
    settings = JsonSchema(description=f"says {tool_id}")
    return Tool(id=tool_id, name=f"t_{tool_id}", signature="", settings=settings, created_at=NOW, updated_at=NOW)


def version(config_id: str) -> ConfigVersion:
    """Links to two tools, one of which all share."""
    links = [LinkedTool(id=tool_id, source="organization") for tool_id in ("shared", f"of {config_id}")]
    return ConfigVersion(
        id=config_id, project_id="pr_1", created_at=NOW, config=ModelConfig(model="m", endpoint="chat", tools=links)
    )


def descriptions(found: ConfigVersion) -> list[str | None]:
    assert isinstance(found.config, ModelConfig)
    return [link.description for link in found.config.tools or []]


@pytest.fixture
def bus() -> HandmadeBus:
    return HandmadeBus()


@pytest.fixture
def project_cache(bus: HandmadeBus) -> ProjectCache:
    return ProjectCache(cast("Bus", bus), Settings(secret="s" * 43 + "="))  # type: ignore[arg-type]


async def test_the_tools_of_a_page_are_asked_for_once(bus: HandmadeBus, project_cache: ProjectCache) -> None:
    found = await project_cache.versions("tm_1", ["c1", "c2", "c1"])
    assert {config_id: descriptions(one) for config_id, one in found.items()} == {
        "c1": ["says shared", "says of c1"],
        "c2": ["says shared", "says of c2"],
    }
    assert bus.asked == [["shared", "of c1", "of c2"]]


async def test_tools_that_do_not_fit_together_are_asked_for_apart(
    bus: HandmadeBus, project_cache: ProjectCache
) -> None:
    bus.most = 1
    (found,) = (await project_cache.versions("tm_1", ["c1"])).values()
    assert descriptions(found) == ["says shared", "says of c1"]


@pytest.mark.parametrize("problem", [Unavailable, Internal, TooLarge])
async def test_what_cannot_be_had_of_a_tool_keeps_no_config_away(
    bus: HandmadeBus, project_cache: ProjectCache, problem: Callable[[str], Problem]
) -> None:
    bus.problem = problem("no")
    assert await project_cache.version("tm_1", "c1") == version("c1")


def large(name: str) -> ModelConfig:
    """A config of ten kilobytes."""
    return ModelConfig(model=name, endpoint="complete", prompt_template="x" * 10_000)


async def resolve(project_cache: ProjectCache, config: ModelConfig) -> None:
    await project_cache.resolve(CALLER, ProjectRef(name="p"), config=config)


async def test_large_configs_are_remembered_up_to_a_size(bus: HandmadeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 55_000)
    project_cache = ProjectCache(cast("Bus", bus), Settings(secret="s" * 43 + "="))  # type: ignore[arg-type]
    for name in "abcdefgh":
        await resolve(project_cache, large(name))
    for name in "hgfed":
        await resolve(project_cache, large(name))
    assert len(bus.resolved) == 8
    await resolve(project_cache, large("a"))
    assert len(bus.resolved) == 9


async def test_what_is_remembered_of_a_config_does_not_hold_its_text_twice(project_cache: ProjectCache) -> None:
    await resolve(project_cache, large("a"))
    (key,) = project_cache._resolved._entries
    assert len(str(key)) < 300


async def test_a_change_is_about_the_projects_of_its_organisation(
    bus: HandmadeBus, project_cache: ProjectCache
) -> None:
    await resolve(project_cache, large("a"))
    project_cache._changed(ProjectChanged(organisation="tm_2", project_id="pr_1", what="renamed"))
    await resolve(project_cache, large("a"))
    assert len(bus.resolved) == 1
    project_cache._changed(ProjectChanged(organisation="tm_1", project_id="pr_1", what="renamed"))
    await resolve(project_cache, large("a"))
    assert len(bus.resolved) == 2
