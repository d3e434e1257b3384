"""What the lock files must and must not hold."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", lock.read_text(), re.MULTILINE))


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", each)[0] for each in requirements}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_has_a_hash_and_no_address(lock: Path) -> None:
    """Where packages come from is decided by the machine that installs them: no address, no option but hashes."""
    text = lock.read_text()
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", re.sub(r"#.*", "", text))) == {"--hash"}
    assert "torch" not in pinned(lock)


def test_the_locks_hold_what_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, groups = named(project["project"]["dependencies"]), project["dependency-groups"]
    assert runtime | {"hatchling", "editables"} <= set(pinned(ROOT / "requirements.lock"))
    assert runtime | named(groups["dev"]) <= set(pinned(ROOT / "requirements-dev.lock"))
    assert named(groups["servers"]) == set(pinned(ROOT / "requirements-servers.lock"))


def test_development_runs_on_the_versions_that_are_shipped() -> None:
    development = pinned(ROOT / "requirements-dev.lock")
    shipped = pinned(ROOT / "requirements.lock")
    assert {name: development.get(name) for name in shipped} == shipped


def test_the_old_clients_are_the_ones_applications_use() -> None:
    assert pinned(ROOT / "requirements-sdk735.lock")["humanloop"] == "0.7.35"
    assert pinned(ROOT / "requirements-sdk700.lock")["humanloop"] == "0.7.0"
    assert pinned(ROOT / "requirements-sdk518.lock")["humanloop"] == "0.5.18"
