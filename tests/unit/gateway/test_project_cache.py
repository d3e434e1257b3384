"""Which requests the project cache makes, with a fake bus."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.gateway import project_cache as module
from services.gateway.project_cache import ProjectCache
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.contracts.chat import LinkedTool
from shared.contracts.generation.projects import (
    ConfigVersion,
    GetVersions,
    ModelConfig,
    Project,
    ProjectChanged,
    ProjectRef,
    ResolveConfig,
    ResolvedConfig,
    Versions,
)
from shared.contracts.generation.tools import GetTools, JsonSchema, Tool, Tools
from shared.contracts.message import Request
from shared.contracts.principal import Principal
from shared.errors import Internal, Problem, TooLarge, Unavailable

NOW = datetime(2024, 1, 1, tzinfo=UTC)
CALLER = Principal(organisation="tm_1", role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org")


class FakeBus:
    """Has every config and tool; at most `max_tools` tools fit into a message."""

    def __init__(self) -> None:
        self.tool_requests: list[list[str]] = []
        self.resolve_requests: list[ResolveConfig] = []
        self.max_tools = 1000
        self.problem: Problem | None = None

    async def request(self, request: Request[Any]) -> Any:
        if isinstance(request, GetVersions):
            return Versions(versions=[version(config_id) for config_id in request.ids])
        if isinstance(request, ResolveConfig):
            self.resolve_requests.append(request)
            assert isinstance(request.config, ModelConfig)
            made = ConfigVersion(id=request.config.model, project_id="pr_1", created_at=NOW, config=request.config)
            return ResolvedConfig(project=Project(id="pr_1", name="p", created_at=NOW, updated_at=NOW), version=made)
        assert isinstance(request, GetTools)
        self.tool_requests.append(request.ids)
        if self.problem:
            raise self.problem
        if len(request.ids) > self.max_tools:
            raise TooLarge("too much")
        return Tools(tools=[tool(tool_id) for tool_id in request.ids])


def tool(tool_id: str) -> Tool:
    settings = JsonSchema(description=f"says {tool_id}")
    return Tool(id=tool_id, name=f"t_{tool_id}", signature="", settings=settings, created_at=NOW, updated_at=NOW)


def version(config_id: str) -> ConfigVersion:
    """A version that links to two tools, one of which all versions link to."""
    links = [LinkedTool(id=tool_id, source="organization") for tool_id in ("shared", f"of {config_id}")]
    return ConfigVersion(
        id=config_id, project_id="pr_1", created_at=NOW, config=ModelConfig(model="m", endpoint="chat", tools=links)
    )


def descriptions(version: ConfigVersion) -> list[str | None]:
    assert isinstance(version.config, ModelConfig)
    return [link.description for link in version.config.tools or []]


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def project_cache(bus: FakeBus) -> ProjectCache:
    return ProjectCache(cast("Bus", bus), Settings(secret="s" * 43 + "="))


async def test_the_linked_tools_of_several_configs_are_fetched_in_one_request(
    bus: FakeBus, project_cache: ProjectCache
) -> None:
    versions = await project_cache.get_many_versions("tm_1", ["c1", "c2", "c1"])
    assert {config_id: descriptions(one) for config_id, one in versions.items()} == {
        "c1": ["says shared", "says of c1"],
        "c2": ["says shared", "says of c2"],
    }
    assert bus.tool_requests == [["shared", "of c1", "of c2"]]


async def test_tools_that_are_too_large_for_one_message_are_fetched_separately(
    bus: FakeBus, project_cache: ProjectCache
) -> None:
    bus.max_tools = 1
    (only,) = (await project_cache.get_many_versions("tm_1", ["c1"])).values()
    assert descriptions(only) == ["says shared", "says of c1"]


@pytest.mark.parametrize("problem", [Unavailable, Internal, TooLarge])
async def test_a_config_is_returned_although_its_tools_cannot_be_fetched(
    bus: FakeBus, project_cache: ProjectCache, problem: Callable[[str], Problem]
) -> None:
    bus.problem = problem("no")
    assert await project_cache.get_version("tm_1", "c1") == version("c1")


def large(name: str) -> ModelConfig:
    """A config of 10 kB."""
    return ModelConfig(model=name, endpoint="complete", prompt_template="x" * 10_000)


async def resolve(project_cache: ProjectCache, config: ModelConfig) -> None:
    await project_cache.resolve(CALLER, ProjectRef(name="p"), config=config)


async def test_cached_configs_are_bounded_in_bytes(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 78_000)  # 10 kB of text each, and its fields
    project_cache = ProjectCache(cast("Bus", bus), Settings(secret="s" * 43 + "="))
    for name in "abcdefgh":
        await resolve(project_cache, large(name))
    for name in "hgfed":
        await resolve(project_cache, large(name))
    assert len(bus.resolve_requests) == 8
    await resolve(project_cache, large("a"))
    assert len(bus.resolve_requests) == 9


async def test_the_cache_key_of_a_config_does_not_contain_its_text(project_cache: ProjectCache) -> None:
    await resolve(project_cache, large("a"))
    (key,) = project_cache._resolved._entries
    assert len(str(key)) < 300


async def test_a_changed_project_is_dropped_for_its_own_organisation_only(
    bus: FakeBus, project_cache: ProjectCache
) -> None:
    await resolve(project_cache, large("a"))
    project_cache._on_project_changed(ProjectChanged(organisation="tm_2", project_id="pr_1", what="renamed"))
    await resolve(project_cache, large("a"))
    assert len(bus.resolve_requests) == 1
    project_cache._on_project_changed(ProjectChanged(organisation="tm_1", project_id="pr_1", what="renamed"))
    await resolve(project_cache, large("a"))
    assert len(bus.resolve_requests) == 2
