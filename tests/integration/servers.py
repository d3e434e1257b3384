"""Real servers for integration tests: each on a free port, on a folder of its own."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.bus import Bus
from shared.contracts.health import Health, health_query
from shared.errors import Unavailable
from shared.settings import ServiceSettings
from tests import processes

ROOT = Path(__file__).parents[2]
SECRET = "c2l4dGVlbiBieXRlcyB0d2ljZSwgc28gMzIgb2YgdGg="


def free_port() -> int:
    """Return a TCP port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A child process that can be killed, paused, stopped and started again."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.command = command
        self.log = log
        self.environment = environment
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output is appended to `log`."""
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=output,
                env=(os.environ if self.environment is None else self.environment) | processes.marked_environment(),
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The process as last started."""
        assert self._child is not None
        return self._child

    def kill(self) -> None:
        """Send SIGKILL and wait for its end."""
        self.child.kill()
        self.child.wait()

    def pause(self) -> None:
        """Send SIGSTOP: the process stays alive and does nothing."""
        self.child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT after `pause`."""
        self.child.send_signal(signal.SIGCONT)

    def terminate(self, seconds: float = 15.0) -> int:
        """Send SIGTERM; return the exit code. Raises TimeoutExpired after `seconds`."""
        self.child.terminate()
        return self.child.wait(seconds)

    def stop(self) -> None:
        """Terminate it if it runs, paused or not; kill it after 10 s."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGCONT)
            self._child.terminate()
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


def stop_all(processes: Sequence[Process]) -> None:
    """Stop each that runs, all at the same time."""
    with ThreadPoolExecutor(len(processes) or 1) as pool:
        list(pool.map(Process.stop, processes))


def until_listening(port: int, seconds: float = 20.0) -> None:
    """Wait until the port accepts connections. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.02)


class Nats(Process):
    """A NATS server with JetStream that syncs every write, as deploy/nats.conf has it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        config = folder / "nats.conf"
        config.write_text(
            f"host: 127.0.0.1\nport: {self.port}\nmax_payload: 8MB\nmax_pending: 64MB\n"
            f'jetstream {{ store_dir: "{folder}/nats", sync_interval: always }}\n'
        )
        binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
        assert binary, "nats-server is missing: make setup"
        super().__init__([binary, "--config", str(config)], folder / "nats.log")

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        super().start()
        until_listening(self.port)


class Mongo(Process):
    """A mongod that `initiate_replica_set` makes a replica set of one."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs0&directConnection=true"
        (folder / "mongo").mkdir()
        binary = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"
        super().__init__(
            [
                *(str(binary), "--quiet", "--replSet", "rs0", "--bind_ip", "127.0.0.1", "--port", str(self.port)),
                *("--dbpath", str(folder / "mongo"), "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
                *("--oplogSize", "50", "--setParameter", "diagnosticDataCollectionEnabled=false"),
            ],
            folder / "mongod.log",
        )

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        super().start()
        until_listening(self.port)


@contextlib.contextmanager
def running(process: Process) -> Iterator[None]:
    """Start a process, and stop it at the end."""
    process.start()
    try:
        yield
    finally:
        process.stop()


def settings(nats: Nats, **fields: float) -> ServiceSettings:
    """Return the settings of a bus that connects to this server; `fields` are more of them, in seconds."""
    return ServiceSettings.model_validate({"nats_url": nats.url, **fields})


def service(name: str, folder: Path, nats: Nats, mongo: Mongo, **environment: str) -> Process:
    """Return a service as a process that is not started yet."""
    return Process(
        [sys.executable, "-P", "-m", f"services.{name}.main"],
        folder / f"{name}.log",
        {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "EVERLOOP_NATS_URL": nats.url,
            "EVERLOOP_MONGO_URL": mongo.url,
            **({"EVERLOOP_SECRET": SECRET} if name in {"gateway", "generation"} else {}),
            **environment,
        },
    )


async def until_ready(bus: Bus, name: str, seconds: float = 20.0) -> Health:
    """Wait until the service reports that it is ready; return its health. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(Unavailable):
            health = await bus.request(health_query(name)())
            if health.ready:
                return health
        assert time.monotonic() < deadline, f"{name} is not ready"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def connected(nats: Nats, name: str = "gateway", **fields: float) -> AsyncIterator[Bus]:
    """Yield a bus that is connected as the service `name`; `fields` are settings."""
    bus = Bus(settings(nats, **fields), name)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()
