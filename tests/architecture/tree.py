"""The files of this repository: tracked, or new and not ignored."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SKIPPED = {"__pycache__", "node_modules", "dist", "results"}


@cache
def files() -> tuple[Path, ...]:
    """Paths below the root; from the folders themselves where there is no git (an unpacked archive)."""
    git_ls_files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if git_ls_files.returncode == 0:
        paths = [ROOT / line for line in git_ls_files.stdout.splitlines()]
    else:
        paths = [path for path in ROOT.rglob("*") if not _skipped(path.relative_to(ROOT))]
    return tuple(sorted(path for path in paths if path.is_file()))


def _skipped(path: Path) -> bool:
    return any(part in _SKIPPED or part.startswith(".") for part in path.parts)


def sources(*folders: str, endings: tuple[str, ...] = (".py",)) -> list[Path]:
    """Source files below some top folders."""
    return [path for path in files() if path.suffix in endings and path.relative_to(ROOT).parts[0] in folders]


def text(path: Path) -> str:
    """Its text; empty if it is no text."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def name(path: Path) -> str:
    """For messages."""
    return str(path.relative_to(ROOT))
