"""The data folder of one stack: its files, and the lock that keeps a second supervisor out."""

import contextlib
import fcntl
import json
import os
import select
import signal
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from deploy.local.errors import CommandError

LOG_BYTES = 20 * 1024 * 1024
"""A log larger than this is rotated when a stack starts."""
_REPAIR = "Repair it, or remove it to have it made anew."
_LOCK_SECONDS = 0.5
"""How long to try: `status` takes the lock for an instant to see whether it is free."""


class Folder:
    """Paths below `path`, which hold everything that a stack stores."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.credentials = self.path / "credentials.json"
        self.logs = self.path / "logs"
        self.mongod = self.path / "mongod"
        self.mongod_begun = self.path / "mongod.begun"
        """There from the first start of mongod until it is ready for the first time."""
        self.nats = self.path / "nats"
        self.mongo_key = self.path / "mongo.key"
        self._state = self.path / "state.json"
        self._secrets = self.path / "secrets.json"
        self._ports = self.path / "ports.json"
        self._lock_path = self.path / "lock"
        self._lock: IO[str] | None = None

    def create(self) -> None:
        """Create the folder and its parts with mode 0700. Raises CommandError if that is impossible."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (self.logs, self.mongod, self.nats):
                part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise CommandError(
                f"The data folder {self.path} cannot be made ({error.strerror}). Choose another: everloop up --data DIR"
            ) from None

    def acquire_lock(self) -> bool:
        """Lock the folder for this process and its forks; returns False if another process has locked it."""
        file = self._lock_path.open("a+")
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(file):
            if time.monotonic() > deadline:
                file.close()
                return False
            time.sleep(0.05)
        self._lock = file
        self.write_lock_owner()
        return True

    def write_lock_owner(self) -> None:
        """Write this process's id into the lock file, for `down`. A fork calls it again."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.write(str(os.getpid()))
            self._lock.flush()

    def release_lock(self) -> None:
        """Close the lock file. A fork that has it open keeps the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def is_locked(self) -> bool:
        """Whether a stack runs on this folder, or is starting or stopping."""
        try:
            with self._lock_path.open() as file:
                return not _try_lock(file)
        except FileNotFoundError:
            return False

    def stop_supervisor(self, timeout_seconds: float) -> bool:
        """Send SIGTERM to the process that locked the folder; returns whether it has ended within the timeout."""
        try:
            handle = os.pidfd_open(int(self._lock_path.read_text()))
        except (OSError, ValueError):
            return not self.is_locked
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            gone, _, _ = select.select([handle], [], [], timeout_seconds)
        finally:
            os.close(handle)
        return bool(gone)

    @property
    def state(self) -> dict[str, Any]:
        """What the supervisor wrote last: pid, url and components, each with name, pid, port, state and restarts."""
        try:
            return _read_json(self._state)
        except CommandError:
            return {}  # it is written without fsync: after a loss of power it may be empty

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        write_private(self._state, value, durable=False)

    @property
    def secrets(self) -> dict[str, Any]:
        """Content of `secrets.json` (`privileges.secrets.Secrets`); empty before the first start."""
        return _read_json(
            self._secrets,
            "Restore it from a backup; if you remove it, new secrets are generated and stored keys are lost.",
        )

    @secrets.setter
    def secrets(self, value: dict[str, Any]) -> None:
        write_private(self._secrets, value)

    @property
    def ports(self) -> dict[str, int]:
        """Ports of the last start by name (http, nats, mongo, model), so that the next one has the same addresses."""
        ports = _read_json(self._ports)
        if not all(type(port) is int and 0 < port < 65_536 for port in ports.values()):
            raise CommandError(f"{self._ports} holds something else than ports. {_REPAIR}")
        return ports

    @ports.setter
    def ports(self, value: dict[str, int]) -> None:
        write_private(self._ports, value)

    def read_credentials(self) -> dict[str, Any]:
        """Return URL, email, password and API key of the first administrator; empty before the first start."""
        return _read_json(self.credentials)

    def log(self, name: str) -> Path:
        """Return the path of a component's log."""
        return self.logs / f"{name}.log"

    def rotate_logs(self) -> None:
        """Rename every log larger than LOG_BYTES to `<name>.log.1`, replacing an earlier one."""
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))


def write_private(path: Path, value: object, *, durable: bool = True) -> None:
    """Write JSON with mode 0600, atomically: a reader sees the old file or the new one.

    Without `durable` there is no fsync; for what a restart writes again.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _read_json(path: Path, remedy: str = _REPAIR) -> dict[str, Any]:
    """Return the JSON object in the file; empty if there is no file. Raises CommandError if it holds anything else."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CommandError(f"{path} cannot be read ({error}). {remedy}") from None
    if not isinstance(value, dict):
        raise CommandError(f"{path} holds no JSON object. {remedy}")
    return value


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
