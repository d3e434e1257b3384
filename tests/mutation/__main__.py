"""Changes source files in small ways (mutants) and prints those that no unit test beside the file notices.

`make mutants` mutates what changed since a commit, `make mutants FILES=services/x/y.py` the named files. mutmut makes
the mutants and runs the tests, in a temporary copy of the tree; it mutates the bodies of functions only.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutation.survivors import SOURCES, changed_files, copy_tree, survivors, unit_tests

ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> int:
    """Print the survivors as `file:line` with their diffs; return 0, or mutmut's exit code if it could not run."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--base", help="mutate what changed since this commit (default: the merge base with main)")
    parser.add_argument("--workers", default="2", help="tests of so many mutants run at once")
    parser.add_argument("files", nargs="*", help="mutate these instead, as paths below the root")
    options = parser.parse_args(arguments)
    files = options.files or changed_files(ROOT, options.base)
    for file in files:
        if not (ROOT / file).is_file() or Path(file).parts[0] not in SOURCES or not file.endswith(".py"):
            parser.error(f"{file} is no Python file of {', '.join(SOURCES)}")
    tests = {file: unit_tests(ROOT, file) for file in files}
    for file in [file for file, folder in tests.items() if folder is None]:
        print(f"{file}: no unit tests beside it, left out")
    tested = {file: folder for file, folder in tests.items() if folder is not None}
    if not tested:
        print("No source file to mutate.")
        return 0
    print("Mutating", *tested, "under the tests of", *sorted(set(tested.values())))
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        copy_tree(ROOT, folder, list(tested), sorted(set(tested.values())))
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", options.workers]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            print(run.stdout, run.stderr, sep="\n")
            return run.returncode
        alive, total = survivors(folder)
        for survivor in alive:
            print(f"\n{survivor.file}:{survivor.line}: {survivor.status} ({survivor.name})\n{survivor.diff}")
    print(f"\n{total} mutants, {len(alive)} unnoticed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
