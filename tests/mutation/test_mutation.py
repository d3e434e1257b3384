"""`make mutants` on a small project: mutmut itself, and the lines it is said to have left unnoticed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.mutation import __main__ as mutation
from tests.mutation.survivors import changed_files, unit_tests

SOURCE = '''"""A module."""


class Range:
    """Whole numbers."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def contains(self, value: int) -> bool:
        """Return whether it is one of them."""
        if value < self.low:
            return False
        return value <= self.high
'''
TEST = """from shared.range import Range


def test_a_value_below_is_not_contained():
    assert not Range(2, 4).contains(1)
    assert Range(2, 4).contains(2)


def test_a_value_between_is_contained():
    assert Range(2, 4).contains(3)
    assert not Range(2, 4).contains(6)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository of one source file, changed since its first commit, and its tests, which try no upper bound."""
    for path, content in {
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['.']\n",
        "shared/__init__.py": "",
        "shared/range.py": "",
        "tests/unit/shared/test_range.py": TEST,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    for command in ("init -q -b main", "add -A", "-c user.name=a -c user.email=a@example.org commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    (tmp_path / "shared" / "range.py").write_text(SOURCE)
    return tmp_path


def test_a_mutant_that_no_test_notices_is_printed_with_its_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutation, "ROOT", project)
    assert mutation.main(["--base", "HEAD"]) == 0
    printed = capsys.readouterr().out
    assert "shared/range.py:15: survived" in printed
    assert "-    return value <= self.high\n+    return value < self.high" in printed
    assert "shared/range.py:13:" not in printed
    assert {path.name for path in project.iterdir()} == {".git", "pyproject.toml", "shared", "tests"}


def test_files_that_differ_from_the_base_are_mutated_committed_or_not(project: Path) -> None:
    (project / "shared" / "new.py").write_text("")
    (project / "shared" / "__init__.py").unlink()
    assert changed_files(project, "HEAD") == ["shared/new.py", "shared/range.py"]


def test_the_tests_beside_a_file_are_those_of_its_name_or_of_its_nearest_folder(project: Path) -> None:
    (project / "tests" / "unit" / "gateway").mkdir()
    assert unit_tests(project, "shared/range.py") == "tests/unit/shared/test_range.py"
    assert unit_tests(project, "shared/bus/client.py") == "tests/unit/shared"
    assert unit_tests(project, "services/gateway/routes/chat.py") == "tests/unit/gateway"
    shutil.rmtree(project / "tests")
    assert unit_tests(project, "shared/range.py") is None
