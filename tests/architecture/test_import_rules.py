"""The import rules of pyproject.toml hold, and each of them bites."""

import ast
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, name, sources

RULES = {
    "1. Services do not know one another": ("services/authz/credentials/keys.py", "services.logging.settings"),
    "2. shared knows no service": ("shared/ids.py", "services.authz.credentials.keys"),
    "3. Contracts import pydantic": ("shared/contracts/access/keys.py", "shared.permissions"),
    "4. Only the gateway speaks HTTP": ("services/authz/membership/access.py", "fastapi"),
    "5. Only stores, migrations and": ("services/authz/handlers/keys.py", "pymongo"),
    "6. Only the providers' transport": ("services/logging/main.py", "httpx"),
    "7. Only handlers, deps, mains": ("services/authz/credentials/keys.py", "faststream"),
    "8. Layers of authz": ("services/authz/membership/access.py", "services.authz.store"),
    "8. Layers of evaluation": ("services/evaluation/settings.py", "services.evaluation.main"),
    "8. Layers of gateway": ("services/gateway/deps.py", "services.gateway.routes.logs"),
    "8. Layers of generation": ("services/generation/providers/base.py", "services.generation.deps"),
    "8. Layers of providers": ("services/generation/providers/base.py", "services.generation.providers.registry"),
    "8. Layers of logging": ("services/logging/settings.py", "services.logging.store"),
    "8. Handlers and routes": ("services/authz/handlers/keys.py", "services.authz.handlers.members"),
    "8. Dialects do not know": (
        "services/generation/providers/dialects/openai/reply.py",
        "services.generation.providers.dialects.mock",
    ),
    "8. Kinds of tools": ("services/generation/tools/google.py", "services.generation.tools.snippet"),
}
"""By the beginning of a rule's name: a file, and an import that breaks the rule there."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    return subprocess.run(
        [sys.executable, str(command), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_every_rule_is_kept() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
    for rule in RULES:
        assert rule in result.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree, to be broken."""
    folder = tmp_path_factory.mktemp("tree")
    for part in ("services", "shared"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "web"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_noticed(copy: Path, rule: str) -> None:
    path, imported = RULES[rule]
    file = copy / path
    whole = file.read_text()
    file.write_text(f"{whole}\nimport {imported}\n")
    try:
        result = lint(copy)
    finally:
        file.write_text(whole)
    assert result.returncode == 1
    assert any(line.startswith(rule) and "BROKEN" in line for line in result.stdout.splitlines()), result.stdout


def test_contracts_import_nothing_else_at_all() -> None:
    for path in sources("shared"):
        if "contracts" in path.parts:
            for module in _imports(path):
                top = module.partition(".")[0]
                allowed = top in sys.stdlib_module_names or top == "pydantic" or module == "shared.ids"
                assert allowed or module.startswith("shared.contracts"), f"{name(path)} imports {module}"


def _imports(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "shared"
            found.extend(f"shared.{alias.name}" for alias in node.names) if whole else found.append(node.module)
    return found
