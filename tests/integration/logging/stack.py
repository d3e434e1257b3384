"""Real servers for the tests of the logging service: nats-server with deploy/nats.conf, mongod, service processes."""

import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType

from nats.js.errors import NotFoundError
from pydantic import SecretStr

from shared.bus import Bus
from shared.mongo import Database, connect, initiate_replica_set
from shared.settings import DatabaseSettings
from tests.integration.servers import ROOT, Mongo, Nats, Process

USERS = ("operator", "gateway", "generation", "logging", "evaluation", "authz")


class ConfiguredNats(Nats):
    """A nats-server with the users and subjects of deploy/nats.conf."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.command = [self.command[0], "--config", str(ROOT / "deploy" / "nats.conf")]
        self.environment = os.environ | {
            "EVERLOOP_NATS_HOST": "127.0.0.1",
            "EVERLOOP_NATS_PORT": str(self.port),
            "EVERLOOP_NATS_STORE": f'"{folder / "nats"}"',
            **{f"EVERLOOP_NATS_PASSWORD_{user.upper()}": f"{user}Password" for user in USERS},
        }


class LoggingStack:
    """nats-server, mongod, and any number of logging processes, with their data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nats = ConfiguredNats(folder)
        self.mongod = Mongo(folder)
        self._processes: list[Process] = []

    async def start(self) -> None:
        """Start both servers and wait for the replica set's primary."""
        self.nats.start()
        self.mongod.start()
        host = f"127.0.0.1:{self.mongod.port}"
        await initiate_replica_set(f"mongodb://{host}/?directConnection=true", host)

    def stop(self) -> None:
        """Stop the logging processes and both servers."""
        self.stop_logging()
        for server in (self.nats, self.mongod):
            server.stop()

    def stop_logging(self) -> None:
        """Stop every logging process."""
        for server in self._processes:
            server.stop()

    def settings(self, user: str, prefix: str) -> DatabaseSettings:
        """Return the settings of a process that connects as this NATS user."""
        return DatabaseSettings(
            nats_url=self.nats.url,
            nats_user=user,
            nats_password=SecretStr(f"{user}Password"),
            mongo_url=SecretStr(self.mongod.url),
            mongo_prefix=prefix,
        )

    def logging(self, prefix: str, **environment: str) -> Process:
        """Return a logging process that is not started; processes with one `prefix` are replicas."""
        server = Process(
            [sys.executable, "-P", "-m", "services.logging.main"],
            self.folder / f"logging-{len(self._processes)}.txt",
            os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "EVERLOOP_NATS_URL": self.nats.url,
                "EVERLOOP_NATS_USER": "logging",
                "EVERLOOP_NATS_PASSWORD": "loggingPassword",
                "EVERLOOP_MONGO_URL": self.mongod.url,
                "EVERLOOP_MONGO_PREFIX": prefix,
                **environment,
            },
        )
        self._processes.append(server)
        return server

    async def delete_streams(self) -> None:
        """Delete the streams, as if the bus had never been used."""
        async with self.bus("operator") as bus:
            jetstream = bus.client.jetstream()
            for stream in ("LOGS", "EVENTS", "DEAD"):
                with contextlib.suppress(NotFoundError):
                    await jetstream.delete_stream(stream)

    @contextmanager
    def database(self, prefix: str) -> Iterator[Database]:
        """Yield the database of the logging processes with this prefix."""
        database = connect(self.settings("logging", prefix), "logging")
        try:
            yield database
        finally:
            database.client.close()

    @asynccontextmanager
    async def bus(self, user: str = "gateway") -> AsyncIterator[Bus]:
        """Yield a connection to the bus as this NATS user."""
        bus = Bus(self.settings(user, "none"), user)
        await bus.open()
        await bus.start_subscribers()
        try:
            yield bus
        finally:
            await bus.close()


class TemporaryLoggingStack:
    """An async context manager that runs a stack in a temporary folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="everloop-logging-")

    async def __aenter__(self) -> LoggingStack:
        self.stack = LoggingStack(Path(self._folder.name))
        await self.stack.start()
        return self.stack

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.stop()
        self._folder.cleanup()
