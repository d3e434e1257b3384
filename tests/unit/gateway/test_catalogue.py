"""What the catalogue asks generation, with a bus written by hand."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.gateway.catalogue import Catalogue
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.contracts.chat import LinkedTool
from shared.contracts.message import Request
from shared.contracts.projects import ConfigVersion, GetVersions, ModelConfig, Versions
from shared.contracts.tools import GetTools, JsonSchema, Tool, Tools
from shared.errors import Internal, Problem, TooLarge, Unavailable

NOW = datetime(2024, 1, 1, tzinfo=UTC)


class HandmadeBus:
    """Knows every config and tool; `most` tools fit into a message."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.most = 1000
        self.problem: Problem | None = None

    async def ask(self, request: Request[Any]) -> Any:
        if isinstance(request, GetVersions):
            return Versions(versions=[version(config_id) for config_id in request.ids])
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
def catalogue(bus: HandmadeBus) -> Catalogue:
    return Catalogue(cast("Bus", bus), Settings(secret="s" * 43 + "="))  # type: ignore[arg-type]


async def test_the_tools_of_a_page_are_asked_for_once(bus: HandmadeBus, catalogue: Catalogue) -> None:
    found = await catalogue.versions("tm_1", ["c1", "c2", "c1"])
    assert {config_id: descriptions(one) for config_id, one in found.items()} == {
        "c1": ["says shared", "says of c1"],
        "c2": ["says shared", "says of c2"],
    }
    assert bus.asked == [["shared", "of c1", "of c2"]]


async def test_tools_that_do_not_fit_together_are_asked_for_apart(bus: HandmadeBus, catalogue: Catalogue) -> None:
    bus.most = 1
    (found,) = (await catalogue.versions("tm_1", ["c1"])).values()
    assert descriptions(found) == ["says shared", "says of c1"]


@pytest.mark.parametrize("problem", [Unavailable, Internal, TooLarge])
async def test_what_cannot_be_had_of_a_tool_keeps_no_config_away(
    bus: HandmadeBus, catalogue: Catalogue, problem: Callable[[str], Problem]
) -> None:
    bus.problem = problem("no")
    assert await catalogue.version("tm_1", "c1") == version("c1")
