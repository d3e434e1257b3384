"""Real servers for the tests of `logging`: nats-server with the house's configuration, mongod, service processes."""

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


class HouseNats(Nats):
    """With the users and subjects of deploy/nats.conf."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.command = [self.command[0], "--config", str(ROOT / "deploy" / "nats.conf")]
        self.environment = os.environ | {
            "EVERLOOP_NATS_HOST": "127.0.0.1",
            "EVERLOOP_NATS_PORT": str(self.port),
            "EVERLOOP_NATS_STORE": f'"{folder / "nats"}"',
            **{f"EVERLOOP_NATS_PASSWORD_{user.upper()}": f"{user}Password" for user in USERS},
        }


class Stack:
    """nats-server and mongod, and any number of logging processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nats = HouseNats(folder)
        self.mongod = Mongo(folder)
        self._others: list[Process] = []

    async def start(self) -> None:
        """Both servers, ready for work."""
        self.nats.start()
        self.mongod.start()
        host = f"127.0.0.1:{self.mongod.port}"
        await initiate_replica_set(f"mongodb://{host}/?directConnection=true", host)

    def stop(self) -> None:
        """Everything, at once."""
        self.stop_logging()
        for server in (self.nats, self.mongod):
            server.stop()

    def stop_logging(self) -> None:
        """Every logging process, at once."""
        for server in self._others:
            server.stop()

    def settings(self, user: str, prefix: str) -> DatabaseSettings:
        """Settings of a process that acts as `user`."""
        return DatabaseSettings(
            nats_url=self.nats.url,
            nats_user=user,
            nats_password=SecretStr(f"{user}Password"),
            mongo_url=SecretStr(self.mongod.url),
            mongo_prefix=prefix,
        )

    def logging(self, prefix: str, **environment: str) -> Process:
        """A logging process, not started."""
        server = Process(
            [sys.executable, "-P", "-m", "services.logging.main"],
            self.folder / f"logging-{len(self._others)}.txt",
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
