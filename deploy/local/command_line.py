"""How the user is told to call `everloop` again."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from deploy.local.folder import Folder

DEFAULT_FOLDER = Path(".everloop")


def command_line(verb: str, folder: Folder) -> str:
    """Return the command line for a verb on this folder, to be pasted into the shell that called us."""
    on_path = shutil.which("everloop") or not sys.argv[0].endswith("/everloop")
    program = "everloop" if on_path else os.path.relpath(sys.argv[0])
    data = "" if folder.path == DEFAULT_FOLDER.absolute() else f" --data {shlex.quote(str(folder.path))}"
    return f"{program} {verb}{data}"
