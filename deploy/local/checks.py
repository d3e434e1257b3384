"""What this machine must have for a stack to run, in plain words with the way out. `doctor` shows all of it."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.local.folder import Folder
from deploy.local.servers import components as servers
from deploy.local.servers import ports
from deploy.local.stack import Options

WARN_BYTES = 2 * 1024**3
LEAST_BYTES = 500 * 1024**2
"""An empty mongod alone takes 300 MB, for its journal."""
OWN_MONGO = "use a MongoDB of your own (set EVERLOOP_MONGO_URL), or run everything in containers (deploy/compose.yaml)"
_PYTHON = (3, 11)


class Level(StrEnum):
    """What a finding means for `up`."""

    OK = "ok"
    WARNING = "warning"
    FATAL = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    level: Level
    text: str


def examine(options: Options, folder: Folder) -> Iterator[Finding]:
    """Everything that can be known before a process is started, cheapest first."""
    yield _python()
    yield _system()
    if options.own_mongo:
        yield _mongod()
    if options.own_nats:
        yield _wheel(servers.nats_binary(), "nats-server", "Or set EVERLOOP_NATS_URL to a NATS server of your own.")
    if options.with_model:
        yield _wheel(servers.model_file(), "the local model", "Or start without it: everloop up --no-model")
    yield _writable(folder.path)
    yield _disk(folder.path)


def running(folder: Folder) -> Finding:
    """Whether a stack runs on the folder; if not, whether its address is free."""
    if folder.is_held:
        return Finding(Level.OK, f"A stack runs on this folder: {folder.state.get('url', 'it is starting')}")
    port = folder.ports.get("http", ports.HTTP_PORT)
    if not ports.is_free(port):
        return Finding(
            Level.FATAL,
            f"Port {port} is in use by another program. Stop it, or start with another: everloop up --port 0",
        )
    return Finding(Level.OK, f"No stack runs on this folder; port {port} is free")


def _python() -> Finding:
    here = platform.python_version()
    if sys.version_info < _PYTHON:
        return Finding(
            Level.FATAL, f"Python {here} is too old; Everloop needs 3.11 or newer. Make the environment anew."
        )
    return Finding(Level.OK, f"Python {here}")


def _system() -> Finding:
    system, machine = platform.system(), platform.machine()
    if system != "Linux":
        return Finding(
            Level.FATAL,
            f"`everloop up` runs on Linux, this is {system}. Run everything in containers instead: deploy/compose.yaml",
        )
    return Finding(Level.OK, f"{system} on {machine}")


def _mongod() -> Finding:
    machine = platform.machine()
    if machine != "x86_64":
        return Finding(Level.FATAL, f"The MongoDB we bring is built for x86_64, this is {machine}: {OWN_MONGO}.")
    binary = servers.mongod_binary()
    if binary is None:
        return Finding(Level.FATAL, f"mongod is not installed. Run `make setup`; or {OWN_MONGO}.")
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(Level.FATAL, f"mongod cannot be run ({error}): {OWN_MONGO}.")
    if answer.returncode == 0:
        return Finding(Level.OK, f"mongod {answer.stdout.split()[2].lstrip('v')}")
    missing = re.search(r"libraries: (\S+?):", answer.stderr)
    if missing and missing[1].startswith(("libssl", "libcrypto")):
        why = f"mongod needs OpenSSL 3 ({missing[1]}), which this system does not have"
    elif missing:
        why = f"mongod needs the library {missing[1]}; install the package of your system that has it"
    else:
        why = f"mongod does not run here ({answer.stderr.strip()[:200] or f'exit code {answer.returncode}'})"
    return Finding(Level.FATAL, f"{why}. Otherwise {OWN_MONGO}.")


def _wheel(path: Path | None, what: str, otherwise: str) -> Finding:
    if path is None:
        return Finding(Level.FATAL, f"{what} is not installed. Run `make setup`. {otherwise}")
    return Finding(Level.OK, f"{what} is installed ({path.name})")


def _writable(path: Path) -> Finding:
    above = _nearest(path)
    if not os.access(above, os.W_OK | os.X_OK):
        return Finding(Level.FATAL, f"{above} cannot be written to. Choose another data folder: everloop up --data DIR")
    return Finding(Level.OK, f"Data folder {path}")


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(_nearest(path)).free
    room = f"{free / 1024**2:,.0f} MiB free for the data folder"
    if free < LEAST_BYTES:
        return Finding(
            Level.FATAL,
            f"Only {room}; it needs {LEAST_BYTES // 1024**2} MiB. Free some, or choose another disk with --data DIR.",
        )
    if free < WARN_BYTES:
        return Finding(Level.WARNING, f"Only {room}. Logs and datasets will soon fill it; 2 GiB is comfortable.")
    return Finding(Level.OK, room)


def _nearest(path: Path) -> Path:
    """The folder itself, or what exists of the way to it."""
    return next(place for place in (path, *path.parents) if place.exists())
