"""What the pages promise to list is listed, and what they point at is there."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from services.generation.models.features import Feature
from services.generation.providers.registry import PROVIDER_SPECS, ProviderSpec
from shared.contracts.message import Event
from shared.contracts.permissions import PERMISSIONS, Permission
from tests.architecture.tree import ROOT, name, sources, text
from tests.contract_modules import contract_modules

PAGES = [*sources("docs", endings=(".md",)), ROOT / "README.md"]
ACCESS = ROOT / "docs" / "architecture" / "access.md"
PROVIDERS = ROOT / "docs" / "architecture" / "providers.md"
BUS = ROOT / "docs" / "architecture" / "bus.md"


def _events() -> list[type[Event]]:
    return [
        cls
        for module in contract_modules()
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, Event) and cls is not Event and cls.__module__ == module.__name__
    ]


@pytest.mark.parametrize("permission", PERMISSIONS.values(), ids=list(PERMISSIONS))
def test_every_permission_is_explained(permission: Permission) -> None:
    roles = " ".join("yes" if role in permission.roles else "no" for role in ("Member", "Developer", "Admin"))
    row = next((line for line in text(ACCESS).splitlines() if f"`{permission.name}`" in line), "")
    assert permission.action in row
    assert " ".join(re.findall(r"\b(yes|no)\b", row)) == roles


@pytest.mark.parametrize("event", _events(), ids=lambda event: event.__name__)
def test_every_event_is_explained(event: type[Event]) -> None:
    row = next((line for line in text(BUS).splitlines() if f"`{event.__name__}`" in line), "")
    assert f"`{event.wildcard_subject()}`" in row
    for field in set(event.model_fields) - set(Event.model_fields):
        assert f"`{field}`" in row, f"docs/architecture/bus.md says nothing about {event.__name__}.{field}"


def test_what_every_event_carries_is_explained() -> None:
    line = next(line for line in text(BUS).splitlines() if "Every event carries" in line)
    rest = text(BUS)[text(BUS).index(line) :]
    assert set(Event.model_fields) <= set(re.findall(r"`(\w+)`", rest[: rest.index("|")]))


def test_what_is_said_of_providers_is_true() -> None:
    """A new row is complete without a line on the page; a line that is there says what the row says."""
    said = [line for line in text(PROVIDERS).splitlines() if re.match(r"\| `\w+` \| .* \| .* \| .* \| .* \|", line)]
    assert len(said) >= 20
    assert set(said) <= {_line(row) for row in PROVIDER_SPECS.values()}
    example = text(ROOT / "deploy" / "env.example")
    for line in said:
        for variable in re.findall(r"`([A-Z_]+_(?:KEY|TOKEN|URL|ENDPOINT|BEDROCK))`", line):
            assert f"\n#{variable}=" in example, f"deploy/env.example lacks {variable}"


def _line(row: ProviderSpec) -> str:
    key = f"`{row.key_variable}`{' (optional)' * row.key_optional}" if row.key_variable else "none"
    address = f"`{row.base_url_variable}`" if row.base_url_variable else "none"
    only_chats = row.chat_models is not None and row.chat_models.pattern == ""
    lacks = [each for each in get_args(Feature) if each in row.lacks or (each == "suffix" and only_chats)]
    return f"| `{row.name}` | {row.title} | {key} | {address} | {', '.join(lacks) or '—'} |"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text(page)):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tests_that_are_named_exist(page: Path) -> None:
    for target in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text(page)):
        path = ROOT / target[0]
        assert path.is_file(), target[0]
        assert f"def {target[1]}" in text(path), f"{target[0]} has no {target[1]}"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["servers"],
        *project["dependency-groups"]["dev"],
    ]
    page = text(next((ROOT / "docs" / "decisions").glob("*-dependencies.md")))
    for requirement in wanted:
        package = re.split(r"[\[<>=~]", requirement)[0]
        assert f"`{package}`" in page, f"{package}: say why in {page.splitlines()[0]}"
