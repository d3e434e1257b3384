"""Sizes, names, and what must not be written into a file."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, files, name, sources, text

CODE = (".py", ".js", ".ts", ".css")
OURS = ("services", "shared", "deploy", "bench", "examples")
SHARED = {
    "__init__.py", "appender.py", "audit.py", "blobs.py", "cache.py", "encryption.py", "errors.py", "fair_limiter.py",
    "fair_order.py", "ids.py", "migrations.py", "mongo.py", "permissions.py", "service.py", "settings.py",
    "telemetry.py", "bus/__init__.py", "bus/admission.py",
    "bus/authorization.py", "bus/client.py", "bus/connection.py", "bus/replies.py",
    "bus/router.py",
    "bus/streamed_calls.py", "bus/streamed_replies.py", "bus/transport.py", "bus/wire.py",
    "bus/jetstream/__init__.py", "bus/jetstream/appends.py", "bus/jetstream/consumer.py",
    "bus/jetstream/dead_letters.py", "bus/jetstream/deliveries.py", "bus/jetstream/jobs.py",
    "bus/jetstream/pull_consumer.py", "bus/jetstream/retries.py", "bus/jetstream/streams.py",
    "contracts/__init__.py", "contracts/access/__init__.py", "contracts/access/account.py",
    "contracts/access/authentication.py",
    "contracts/access/invites.py", "contracts/access/keys.py", "contracts/access/members.py",
    "contracts/access/oidc.py", "contracts/access/organisations.py", "contracts/access/sessions.py",
    "contracts/audit.py", "contracts/audit_actions.py",
    "contracts/chat.py", "contracts/data_urls.py",
    "contracts/dead_letters.py",
    "contracts/evaluation.py", "contracts/health.py", "contracts/logs.py", "contracts/message.py",
    "contracts/permissions.py",
    "contracts/principal.py", "contracts/value.py",
    "contracts/generation/__init__.py", "contracts/generation/blobs.py", "contracts/generation/credentials.py",
    "contracts/generation/deployments.py", "contracts/generation/generations.py",
    "contracts/generation/projects.py", "contracts/generation/prompts.py", "contracts/generation/providers.py",
    "contracts/generation/routing.py", "contracts/generation/tools.py",
    "contracts/generation/usage.py",
}  # fmt: skip
"""The closed list: one more needs two services that import it, a noun for a name, and a record in docs/decisions."""
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "constants", "base_utils", "tools_common"}
SERVICES = ("authz", "evaluation", "gateway", "generation", "logging")

_LOCKS = re.compile(r".*\.lock|package-lock\.json|.*-lock\.ya?ml")
_INDEX = re.compile(
    r"--(?:extra-|default-)?index(?:-url)?[= ]|--registry[= ]"
    r"|\bindex-url\s*=|^registry\s*=|\[\[tool\.\w+\.(?:index|source)\]\]"
    r"|://registry\.|://[^\s\"'`)]*/simple\b",
    re.MULTILINE,
)
"""What chooses where packages are fetched from: an option, a line of a configuration, an address."""
_MACHINE = re.compile(r"(?<![\w.$~])/(?:root|work|Users/\w+|home/(?!everloop|nonroot|user)\w+|tmp/lab)(?:/|\b)")


@pytest.mark.parametrize("path", sources(*OURS, endings=CODE), ids=name)
def test_a_file_can_be_read_in_one_go(path: Path) -> None:
    assert len(text(path).splitlines()) <= 500


@pytest.mark.parametrize("path", sources("tests", endings=CODE), ids=name)
def test_a_test_file_can_be_read_in_one_go(path: Path) -> None:
    assert len(text(path).splitlines()) <= 800


def test_shared_is_a_closed_list() -> None:
    found = {str(path.relative_to(ROOT / "shared")) for path in sources("shared", endings=(".py", ".json", ".toml"))}
    assert found <= SHARED


def test_what_is_shared_is_used_by_two() -> None:
    """By two services, or by the bus and the settings that every service stands on."""
    users = {service: _imported(sources("services"), service) for service in SERVICES}
    shared = _imported(sources("shared"), None)
    for file in SHARED - {"__init__.py"}:
        if (ROOT / "shared" / file).exists() and "/" not in file:
            module = f"shared.{file.removesuffix('.py')}"
            count = sum(any(line.startswith(module) for line in lines) for lines in users.values())
            assert count >= 2 or any(line.startswith(module) for line in shared), module


def _imported(paths: list[Path], service: str | None) -> set[str]:
    found: set[str] = set()
    for path in paths:
        if service is None or path.relative_to(ROOT).parts[1] == service:
            for match in re.finditer(
                r"^from (shared[\w.]*) import (.+)$|^import (shared[\w.]+)", text(path), re.MULTILINE
            ):
                package, names, plain = match.groups()
                found.add(plain or package)
                if package == "shared":
                    found |= {f"shared.{part.strip()}" for part in names.split(",")}
    return found


def test_every_name_is_a_noun_that_says_something() -> None:
    for path in sources(*OURS, "tests"):
        for part in (path.stem, *path.relative_to(ROOT).parts[:-1]):
            assert part not in EMPTY_NAMES, f"{name(path)}: name it after what it holds"


def test_nothing_is_left_to_be_done_later() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    for path in sources(*OURS, "tests", endings=(*CODE, ".md", ".toml", ".yaml")):
        assert not mark.search(text(path)), name(path)


def test_no_file_chooses_where_packages_come_from() -> None:
    """That is for the machine that installs them to say; lock files hold no address at all."""
    locks = [path for path in files() if _LOCKS.fullmatch(path.name)]
    assert len(locks) >= 7
    for path in locks:
        assert "://" not in text(path), name(path)
    for path in files():
        found = _INDEX.search(text(path))
        assert found is None, f"{name(path)}: {found[0]}"


@pytest.mark.parametrize(
    "line",
    [
        "pip install --index" + "-url https://mirror.example/a x",
        "pip install --extra-index" + "-url=https://mirror.example/a x",
        "uv pip install --index" + " https://mirror.example/a x",
        "index" + "-url = https://mirror.example/a",
        "registry" + "=https://mirror.example/a",
        "[[tool.uv" + ".index]]",
        "x @ https://mirror.example" + "/simple/x",
    ],
)
def test_a_choice_of_where_packages_come_from_is_noticed(line: str) -> None:
    assert _INDEX.search(line)


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    for path in files():
        found = _MACHINE.search(text(path))
        assert found is None, f"{name(path)} names {found[0]}"


def test_nothing_puts_services_on_the_path() -> None:
    """There, `logging` would be our package and not the standard library's."""
    assert (ROOT / "services" / "__init__.py").is_file()
    assert str(ROOT / "services") not in [str(Path(entry).resolve()) for entry in sys.path if entry]
    pytest_options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert pytest_options["pythonpath"] == ["."]
    assert "--import-mode=importlib" in pytest_options["addopts"]
    forbidden = re.compile(
        r"--app-dir|PYTHONPATH\S*services|sys\.path\S*\(.*services|cd services\b|WORKDIR \S*services"
    )
    for path in files():
        if path != Path(__file__):
            assert not forbidden.search(text(path)), name(path)


@pytest.mark.parametrize("safe_path", [["-P"], []], ids=["as started", "from the root"])
def test_logging_stays_the_standard_librarys(safe_path: list[str]) -> None:
    """In a process that has loaded the services whole, started the way they are, and in the careless way."""
    check = (
        f"import {', '.join(f'services.{service}.main' for service in SERVICES)}, logging, sysconfig; "
        "logging.getLogger('x'); "
        "assert logging.__file__.startswith(sysconfig.get_path('stdlib')), logging.__file__"
    )
    environment = {"PYTHONPATH": str(ROOT)} if safe_path else {}
    result = subprocess.run(
        [sys.executable, *safe_path, "-c", check],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
