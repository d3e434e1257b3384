"""Checks what a stack needs of this machine. `doctor` shows every result, `up` stops at the first problem."""

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

from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.servers import binaries, ports
from deploy.local.stack import Options

WARNING_BYTES = 2 * 1024**3
"""Free disk space below which `up` warns."""
MIN_BYTES = 500 * 1024**2
"""Free disk space below which `up` does not start. An empty mongod alone takes 300 MB, for its journal."""
_OTHER_MONGODB = (
    "use a MongoDB of your own (set EVERLOOP_MONGO_URL), or run everything in containers (deploy/compose.yaml)"
)
_MIN_PYTHON = (3, 11)


class Severity(StrEnum):
    """Whether a stack can start."""

    OK = "ok"
    WARNING = "warning"
    FATAL = "problem"


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check."""

    severity: Severity
    text: str


def run_checks(options: Options, folder: Folder) -> Iterator[CheckResult]:
    """Yield what can be known before a process is started, the cheapest check first."""
    yield _python()
    yield _system()
    if options.starts_mongod:
        yield _mongod()
    if options.starts_nats_server:
        yield _installed(
            binaries.find_nats_server(), "nats-server", "Or set EVERLOOP_NATS_URL to a NATS server of your own."
        )
    if options.with_model:
        yield _installed(binaries.find_model_file(), "the local model", "Or start without it: everloop up --no-model")
    yield _writable(folder.path)
    yield _disk(folder.path)


def check_running_stack(folder: Folder) -> CheckResult:
    """Return whether a stack runs on the folder; if none does, whether its HTTP port is free."""
    try:
        is_locked = folder.is_locked
        port = folder.ports.get("http", ports.HTTP_PORT)
    except CommandError as error:
        return CheckResult(Severity.FATAL, str(error))
    except OSError as error:
        return CheckResult(
            Severity.FATAL, f"{error.filename}: {error.strerror}. Choose another data folder: --data DIR"
        )
    if is_locked:
        return CheckResult(Severity.OK, f"A stack runs on this folder: {folder.state.get('url', 'it is starting')}")
    if not ports.is_free(port):
        return CheckResult(
            Severity.FATAL,
            f"Port {port} is in use by another program. Stop it, or start with another: everloop up --port 0",
        )
    return CheckResult(Severity.OK, f"No stack runs on this folder; port {port} is free")


def _python() -> CheckResult:
    version = platform.python_version()
    if sys.version_info < _MIN_PYTHON:
        return CheckResult(
            Severity.FATAL, f"Python {version} is too old; Everloop needs 3.11 or newer. Make the environment anew."
        )
    return CheckResult(Severity.OK, f"Python {version}")


def _system() -> CheckResult:
    system, machine = platform.system(), platform.machine()
    if system != "Linux":
        return CheckResult(
            Severity.FATAL,
            f"`everloop up` runs on Linux, this is {system}. Run everything in containers instead: deploy/compose.yaml",
        )
    return CheckResult(Severity.OK, f"{system} on {machine}")


def _mongod() -> CheckResult:
    machine = platform.machine()
    if machine != "x86_64":
        return CheckResult(
            Severity.FATAL, f"The MongoDB we bring is built for x86_64, this is {machine}: {_OTHER_MONGODB}."
        )
    binary = binaries.find_mongod()
    if binary is None:
        return CheckResult(Severity.FATAL, f"mongod is not installed. Run `make setup`; or {_OTHER_MONGODB}.")
    try:
        completed = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return CheckResult(Severity.FATAL, f"mongod cannot be run ({error}): {_OTHER_MONGODB}.")
    if completed.returncode == 0:
        return CheckResult(Severity.OK, f"mongod {completed.stdout.split()[2].lstrip('v')}")
    missing = re.search(r"libraries: (\S+?):", completed.stderr)
    if missing and missing[1].startswith(("libssl", "libcrypto")):
        reason = f"mongod needs OpenSSL 3 ({missing[1]}), which this system does not have"
    elif missing:
        reason = f"mongod needs the library {missing[1]}; install the package of your system that has it"
    else:
        reason = f"mongod does not run here ({completed.stderr.strip()[:200] or f'exit code {completed.returncode}'})"
    return CheckResult(Severity.FATAL, f"{reason}. Otherwise {_OTHER_MONGODB}.")


def _installed(path: Path | None, name: str, alternative: str) -> CheckResult:
    if path is None:
        return CheckResult(Severity.FATAL, f"{name} is not installed. Run `make setup`. {alternative}")
    return CheckResult(Severity.OK, f"{name} is installed ({path.name})")


def _writable(path: Path) -> CheckResult:
    existing = _nearest_existing(path)
    if not existing.is_dir():
        return CheckResult(Severity.FATAL, f"{existing} is not a folder. Choose another data folder: --data DIR")
    if not os.access(existing, os.W_OK | os.X_OK):
        return CheckResult(
            Severity.FATAL, f"{existing} cannot be written to. Choose another data folder: everloop up --data DIR"
        )
    return CheckResult(Severity.OK, f"Data folder {path}")


def _disk(path: Path) -> CheckResult:
    free = shutil.disk_usage(_nearest_existing(path)).free
    available = f"{free / 1024**2:,.0f} MiB free for the data folder"
    if free < MIN_BYTES:
        return CheckResult(
            Severity.FATAL,
            f"Only {available}; it needs {MIN_BYTES // 1024**2} MiB. Free some, or use another disk: --data DIR",
        )
    if free < WARNING_BYTES:
        return CheckResult(
            Severity.WARNING, f"Only {available}. Logs and datasets will soon fill it; 2 GiB is comfortable."
        )
    return CheckResult(Severity.OK, available)


def _nearest_existing(path: Path) -> Path:
    """Return the folder itself, or the nearest of its parents that exists."""
    return next(each for each in (path, *path.parents) if each.exists())
