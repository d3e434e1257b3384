"""The data folder of one stack: what is kept where, and who holds it."""

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

from deploy.local.errors import Refused

LOG_BYTES = 20 * 1024 * 1024
"""A log larger than this is put aside when its process is started for the first time."""
_HOLD_SECONDS = 0.5
"""`status` holds the lock for an instant while it looks; that must not pass for a running stack."""


class Folder:
    """Everything a stack keeps lies below `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.credentials = self.path / "credentials.json"
        self.logs = self.path / "logs"
        self.mongod = self.path / "mongod"
        self.nats = self.path / "nats"
        self.mongo_key = self.path / "mongo.key"
        self._state = self.path / "state.json"
        self._secrets = self.path / "secrets.json"
        self._ports = self.path / "ports.json"
        self._lock_path = self.path / "lock"
        self._lock: IO[str] | None = None

    def create(self) -> None:
        """Make the folder, readable by its owner only."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (self.logs, self.mongod, self.nats):
                part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Refused(
                f"The data folder {self.path} cannot be made ({error.strerror}). Choose another: everloop up --data DIR"
            ) from None

    def hold(self) -> bool:
        """Take the folder for this process and its forks; False if a running stack has it."""
        file = self._lock_path.open("a+")
        deadline = time.monotonic() + _HOLD_SECONDS
        while not _locked(file):
            if time.monotonic() > deadline:
                file.close()
                return False
            time.sleep(0.05)
        self._lock = file
        self.sign()
        return True

    def sign(self) -> None:
        """Write who holds the folder into the lock, for `down`."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.write(str(os.getpid()))
            self._lock.flush()

    def let_go(self) -> None:
        """Forget the hold without ending it for a fork that has it too."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def is_held(self) -> bool:
        """Whether a stack runs on this folder."""
        try:
            with self._lock_path.open() as file:
                return not _locked(file)
        except FileNotFoundError:
            return False

    def stop_holder(self, seconds: float) -> bool:
        """Ask the process that holds the folder to stop and wait until it is gone; False if it still runs."""
        try:
            handle = os.pidfd_open(int(self._lock_path.read_text()))
        except (OSError, ValueError):
            return not self.is_held
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            gone, _, _ = select.select([handle], [], [], seconds)
        finally:
            os.close(handle)
        return bool(gone)

    @property
    def state(self) -> dict[str, Any]:
        """What the supervisor wrote last: its pid, the URL, and every component."""
        return _read(self._state)

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        write_private(self._state, value, durable=False)

    @property
    def secrets(self) -> dict[str, Any]:
        """What `Secrets` keeps."""
        return _read(self._secrets)

    @secrets.setter
    def secrets(self, value: dict[str, Any]) -> None:
        write_private(self._secrets, value)

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the last start, so that the next one has the same addresses."""
        return _read(self._ports)

    @ports.setter
    def ports(self, value: dict[str, int]) -> None:
        write_private(self._ports, value)

    def read_credentials(self) -> dict[str, Any]:
        """The first administrator and API key; empty before the first start."""
        return _read(self.credentials)

    def log(self, name: str) -> Path:
        """Where a component's output goes."""
        return self.logs / f"{name}.log"

    def rotate_logs(self) -> None:
        """Put large logs aside as `<name>.log.1`."""
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))


def write_private(path: Path, value: object, *, durable: bool = True) -> None:
    """Write JSON that only its owner may read; a reader sees the old file or the new one, never half of it.

    Not `durable` is quicker, for what a restart makes anew.
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


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read ({error}). Repair it, or remove it to have it made anew.") from None
    return value if isinstance(value, dict) else {}


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
