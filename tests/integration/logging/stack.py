"""Real servers for the tests of the logging service: nats-server with deploy/nats.conf, mongod, service processes."""

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import TypeVar, cast

from nats.js.errors import NotFoundError
from pydantic import BaseModel, SecretStr

from services.logging.deps import Deps
from services.logging.handlers import intake
from shared.bus import Batch, Bus
from shared.bus.client import REQUEST_TIMEOUT_SECONDS
from shared.contracts.message import Query, Request
from shared.errors import Unavailable
from shared.mongo import Database, connect, initiate_replica_set
from shared.settings import DatabaseSettings
from tests.integration.servers import ROOT, Mongo, Nats, Process, stop_all, until_ready

R = TypeVar("R", bound=BaseModel)
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


class PatientBus(Bus):
    """Repeats a query that is 503 for 30 s, as a caller would: on a busy machine storing is behind."""

    async def request(self, request: Request[R], *, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS) -> R:
        """Return the answer."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return await super().request(request, timeout_seconds=timeout_seconds)
            except Unavailable:
                if not isinstance(request, Query) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)


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
        stop_all([self.nats, self.mongod])

    def stop_logging(self) -> None:
        """Stop every logging process."""
        stop_all(self._processes)

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
        bus = PatientBus(self.settings(user, "none"), user)
        await bus.open()
        await bus.start_subscribers()
        try:
            yield bus
        finally:
            await bus.close()

    @asynccontextmanager
    async def replicas(self, **environment: str) -> AsyncIterator[tuple[Bus, Database]]:
        """Run two logging processes on empty streams and an unused database; yield a gateway's bus and the database."""
        await self.delete_streams()
        prefix = f"t{secrets.token_hex(4)}"
        async with self.bus() as bus:
            with self.database(prefix) as database:
                for _ in range(2):
                    self.logging(prefix, **environment).start()
                await until_ready(bus, "logging")
                yield bus, database
        self.stop_logging()


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


async def store_message(deps: Deps, sequence: int, *records: BaseModel) -> None:
    """Store one message with these records, as the consumer does."""
    message = SimpleNamespace(
        metadata=SimpleNamespace(sequence=SimpleNamespace(stream=sequence)),
        data=b"[" + b",".join(record.model_dump_json().encode() for record in records) + b"]",
    )
    await intake.store_batch(cast("Batch", SimpleNamespace(messages=[message])), deps)
