"""Real servers for the tests of `logging`: nats-server with the house's configuration, mongod, service processes."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType

from nats.js.errors import NotFoundError
from pydantic import SecretStr

from shared.bus import Bus
from shared.contracts.health import health_of
from shared.errors import Unavailable
from shared.mongo import Database, connect, initiate_replica_set
from shared.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
USERS = ("operator", "gateway", "generation", "logging", "evaluation", "authz")
SECRET = "logging-tests-have-nothing-to-hide-0000000="


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A process that can be killed and started again on the same port and data."""

    def __init__(self, command: list[str], port: int | None, environment: dict[str, str], output: Path) -> None:
        self._command = command
        self._port = port
        self._environment = environment
        self.output = output
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until the port answers."""
        with self.output.open("ab") as sink:
            self.process = subprocess.Popen(
                self._command, env=os.environ | self._environment, cwd=ROOT, stdout=sink, stderr=sink
            )
        deadline = time.monotonic() + 30
        while self._port is not None and not _listens(self._port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(self.output.read_text(errors="replace")[-2000:])
            time.sleep(0.02)

    def stop(self, signum: int = signal.SIGTERM, *, patience_seconds: float = 20) -> int | None:
        """End the process; its exit code."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        process.send_signal(signum)
        try:
            return process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """What loss of power does."""
        self.stop(signal.SIGKILL)


class Stack:
    """nats-server and mongod, and any number of logging processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nats_port, self.mongo_port = free_port(), free_port()
        for name in ("nats", "mongo"):
            (folder / name).mkdir()
        passwords = {f"EVERLOOP_NATS_PASSWORD_{user.upper()}": f"{user}Password" for user in USERS}
        self.nats = Server(
            [str(Path(sysconfig.get_path("scripts")) / "nats-server"), "--config", str(ROOT / "deploy" / "nats.conf")],
            self.nats_port,
            {
                "EVERLOOP_NATS_HOST": "127.0.0.1",
                "EVERLOOP_NATS_PORT": str(self.nats_port),
                "EVERLOOP_NATS_STORE": f'"{folder / "nats"}"',
                **passwords,
            },
            folder / "nats.txt",
        )
        mongod = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"
        self.mongod = Server(
            [
                *(str(mongod), "--quiet", "--replSet", "rs0", "--bind_ip", "127.0.0.1", "--port", str(self.mongo_port)),
                *("--dbpath", str(folder / "mongo"), "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
                *("--oplogSize", "512", "--setParameter", "diagnosticDataCollectionEnabled=false"),
            ],
            self.mongo_port,
            {},
            folder / "mongod.txt",
        )
        self._others: list[Server] = []

    @property
    def mongo_url(self) -> str:
        """Of the one-node replica set."""
        return f"mongodb://127.0.0.1:{self.mongo_port}/?replicaSet=rs0&directConnection=true"

    async def start(self) -> None:
        """Both servers, ready for work."""
        self.nats.start()
        self.mongod.start()
        await initiate_replica_set(
            f"mongodb://127.0.0.1:{self.mongo_port}/?directConnection=true", f"127.0.0.1:{self.mongo_port}"
        )

    def stop(self) -> None:
        """Everything, at once."""
        self.stop_logging()
        for server in (self.nats, self.mongod):
            server.kill()

    def stop_logging(self) -> None:
        """Every logging process, at once."""
        for server in self._others:
            server.kill()

    def settings(self, user: str, prefix: str) -> ServiceSettings:
        """Settings of a process that acts as `user`."""
        return ServiceSettings(
            nats_url=f"nats://127.0.0.1:{self.nats_port}",
            nats_user=user,
            nats_password=SecretStr(f"{user}Password"),
            mongo_url=SecretStr(self.mongo_url),
            mongo_prefix=prefix,
            secret=SecretStr(SECRET),
        )

    def logging(self, prefix: str, **environment: str) -> Server:
        """A logging process, not started."""
        server = Server(
            [sys.executable, "-P", "-m", "services.logging.main"],
            None,
            {
                "PYTHONPATH": str(ROOT),
                "EVERLOOP_NATS_URL": f"nats://127.0.0.1:{self.nats_port}",
                "EVERLOOP_NATS_USER": "logging",
                "EVERLOOP_NATS_PASSWORD": "loggingPassword",
                "EVERLOOP_MONGO_URL": self.mongo_url,
                "EVERLOOP_MONGO_PREFIX": prefix,
                "EVERLOOP_SECRET": SECRET,
                **environment,
            },
            self.folder / f"logging-{len(self._others)}.txt",
        )
        self._others.append(server)
        return server

    async def empty(self) -> None:
        """No streams: as if the bus had never been used."""
        async with self.bus("operator") as bus:
            jetstream = bus.client.jetstream()
            for stream in ("LOGS", "EVENTS", "DEAD"):
                with contextlib.suppress(NotFoundError):
                    await jetstream.delete_stream(stream)

    @contextmanager
    def database(self, prefix: str) -> Iterator[Database]:
        """What the logging service with this prefix has stored."""
        database = connect(self.settings("logging", prefix), "logging")
        try:
            yield database
        finally:
            database.client.close()

    @asynccontextmanager
    async def bus(self, user: str = "gateway") -> AsyncIterator[Bus]:
        """A connection as `user`."""
        bus = Bus(self.settings(user, "none"), user)
        await bus.open()
        await bus.serve()
        try:
            yield bus
        finally:
            await bus.close()


async def until_ready(bus: Bus, seconds: float = 20) -> None:
    """Wait for the logging service."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if (await bus.ask(health_of("logging")())).ready:
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.05)


class Running:
    """A stack in a temporary folder, for `with`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="everloop-logging-")

    async def __aenter__(self) -> Stack:
        self.stack = Stack(Path(self._folder.name))
        await self.stack.start()
        return self.stack

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.stop()
        self._folder.cleanup()
