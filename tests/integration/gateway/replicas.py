"""Two gateways and one authz, as processes on real servers; each gateway's way to NATS can be cut."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.authz.credentials.keys import generate_key
from shared.bus import Bus, StreamSpec, ensure_stream
from shared.contracts.access.authentication import Authenticate
from shared.contracts.principal import Principal
from shared.mongo import initiate_replica_set
from tests.integration.authz.stack import Servers
from tests.integration.servers import Mongo, Nats, connected, free_port, running, service, until_listening, until_ready


class Cable:
    """A TCP connection from a port of its own to another: while it is cut, nothing passes, and nobody is told."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Cable"]:
        """Listen, and close every connection at the end."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._writers:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    def cut(self) -> None:
        """Let nothing pass from now on."""
        self._whole.clear()

    def mend(self) -> None:
        """Let pass what waits, and everything after it."""
        self._whole.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await self._whole.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@dataclass(frozen=True)
class Replicas:
    """Two gateways, their cables to NATS, and the first Admin."""

    bus: Bus
    admin: Principal
    clients: list[httpx.AsyncClient]
    cables: list[Cable]


@asynccontextmanager
async def gateway_replicas(folder: Path, **environment: str) -> AsyncIterator[Replicas]:
    """Yield two gateways with these settings."""
    nats, mongo = Nats(folder), Mongo(folder)
    async with AsyncExitStack() as cabling, AsyncExitStack() as processes:
        processes.enter_context(running(nats))
        processes.enter_context(running(mongo))
        await initiate_replica_set(f"mongodb://127.0.0.1:{mongo.port}", f"127.0.0.1:{mongo.port}")
        async with connected(nats, "operator") as bus:
            for name, subject in (("EVENTS", "events.>"), ("LOGS", "logs.>"), ("BLOBS", "blobs.>")):
                await ensure_stream(bus, StreamSpec(name=name, subjects=(subject,)))
            servers = Servers(folder, nats, mongo, bus, None)  # type: ignore[arg-type]  # unused here
            secret = generate_key()
            processes.enter_context(running(servers.authz("replicas", servers.bootstrap_file(api_key=secret))))
            await until_ready(bus, "authz")
            admin = await bus.request(Authenticate(key_hash=hashlib.sha256(secret.encode()).hexdigest()))
            clients, cables = [], []
            for _ in range(2):
                cable, port = await cabling.enter_async_context(Cable(nats.port).connected()), free_port()
                own = {"EVERLOOP_HTTP_PORT": str(port), "EVERLOOP_NATS_URL": f"nats://127.0.0.1:{cable.port}"}
                processes.enter_context(running(service("gateway", folder, nats, mongo, **own, **environment)))
                await asyncio.to_thread(until_listening, port)
                clients.append(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30))
                cables.append(cable)
            yield Replicas(bus, admin, clients, cables)
            for client in clients:
                await client.aclose()
