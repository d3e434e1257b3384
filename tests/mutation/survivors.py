"""What is given to mutmut, and what its answers mean: which files and tests, and the lines of mutants that survived."""

import ast
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("services", "shared", "deploy")
_NOTICED = {"killed", "timeout", "suspicious", "caught by type check"}
"""What mutmut calls a mutant under which a test failed or never ended."""
_NAME = re.compile(r"(?:x_|xǁ(?P<cls>\w+?)ǁ)(?P<function>\w+)__mutmut_\d+")
"""The last part of a mutant's name: `x_validate__mutmut_5`, `xǁRedirectsǁset__mutmut_22`."""


@dataclass(frozen=True)
class Survivor:
    """A mutant that no test noticed."""

    file: str
    line: int
    """In the unchanged file, the first line that differs."""
    name: str
    """As mutmut names it."""
    status: str
    """`survived`, or `no tests` if no test runs its function."""
    diff: str


def changed_files(root: Path, base: str | None) -> list[str]:
    """Return the Python files of `SOURCES` that differ from `base`, also those that are not committed yet.

    Without a base it is the merge base with main; on main itself, the commit before.
    """
    if base is None:
        head = _git(root, "rev-parse", "HEAD")
        base = _git(root, "merge-base", "HEAD", "main", check=False)
        base = "HEAD~1" if base in ("", head) else base
    lines = _git(root, "diff", "--name-only", "--diff-filter=d", base, "--", *SOURCES)
    lines += "\n" + _git(root, "ls-files", "--others", "--exclude-standard", "--", *SOURCES)
    return sorted({line for line in lines.splitlines() if line.endswith(".py")})


def _git(root: Path, *arguments: str, check: bool = True) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=check).stdout.strip()


def unit_tests(root: Path, file: str) -> str | None:
    """Return the test file named after a source file, otherwise the nearest folder of unit tests; None without."""
    parts = Path(file).parts[1:] if file.startswith("services/") else Path(file).parts
    named = Path("tests", "unit", *parts[:-1], f"test_{parts[-1]}")
    if (root / named).is_file():
        return str(named)
    for length in range(len(parts) - 1, 0, -1):
        folder = Path("tests", "unit", *parts[:length])
        if (root / folder).is_dir():
            return str(folder)
    return None


def copy_tree(root: Path, folder: Path, files: list[str], tests: list[str]) -> None:
    """Copy the tree without what git ignores into `folder`, with a configuration that lets mutmut mutate `files`."""
    known = _git(root, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for path in (path for path in known if (root / path).is_file()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)
    settings = {
        "source_paths": [name for name in SOURCES if (folder / name).is_dir()],
        "only_mutate": files,
        "also_copy": sorted(path.name for path in folder.iterdir()),
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": tests,
    }
    # A list of strings is written alike in JSON and in TOML.
    lines = ["", "[tool.mutmut]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items()), ""]
    (folder / "pyproject.toml").write_text((root / "pyproject.toml").read_text() + "\n".join(lines))


def survivors(folder: Path) -> tuple[list[Survivor], int]:
    """Return the mutants that no test noticed, by file and line, and the number of all, after a run in `folder`."""
    rows = [line.strip().rpartition(": ") for line in _mutmut(folder, "results", "--all", "true").splitlines() if line]
    found = [_survivor(folder, name, status) for name, _, status in rows if status not in _NOTICED]
    return sorted(found, key=lambda survivor: (survivor.file, survivor.line, survivor.name)), len(rows)


def _survivor(folder: Path, name: str, status: str) -> Survivor:
    diff = _mutmut(folder, "show", name).partition("\n")[2].rstrip()
    file = diff.splitlines()[0].removeprefix("--- ")
    within = _first_changed_line(diff)
    return Survivor(file, _definition_line(folder / file, name) + within - 1, name, status, diff)


def _first_changed_line(diff: str) -> int:
    """Return the number of the first line that the diff takes out; the function's definition is line 1."""
    number = 0
    for line in diff.splitlines()[2:]:
        if hunk := re.match(r"@@ -(\d+)", line):
            number = int(hunk[1])
        elif line[:1] in ("-", "+"):
            break
        else:
            number += 1
    return number


def _definition_line(path: Path, name: str) -> int:
    match = _NAME.fullmatch(name.rpartition(".")[2])
    assert match, f"mutmut names its mutants in another way: {name}"
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for node in body if match["cls"] else ():
        if isinstance(node, ast.ClassDef) and node.name == match["cls"]:
            body = node.body
            break
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == match["function"]:
            return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    raise AssertionError(f"{path} has no {match['function']}")


def _mutmut(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
