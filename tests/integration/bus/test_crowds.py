"""A crowd of one organisation on a real NATS server: workers and room for requests are shared."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest

from shared.bus import Bus, Router, admission, streamed_calls
from shared.contracts.message import Command, Done, Query
from shared.contracts.permissions import EDIT_PROMPTS, Permission
from shared.errors import RateLimited, Unavailable
from tests.integration.servers import Nats, connected, running
from tests.principals import member

WORKERS = 8


class Hold(Command[Done]):
    """Holds a worker until it is told to end; streamed."""

    subject: ClassVar[str] = "probe.hold"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS

    text: str = ""


class Ask(Query[Done]):
    """Holds a worker until it is told to end."""

    subject: ClassVar[str] = "probe.ask"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS


class Running:
    """The organisations whose requests run."""

    def __init__(self) -> None:
        self.organisations: list[str] = []
        self.end = asyncio.Event()

    @contextlib.asynccontextmanager
    async def run(self, organisation: str) -> AsyncIterator[None]:
        self.organisations.append(organisation)
        try:
            await self.end.wait()
            yield
        finally:
            self.organisations.remove(organisation)


router = Router[Running]()


@router.streams(Hold, workers=WORKERS)
async def hold(command: Hold, running: Running) -> AsyncIterator[Done]:
    async with running.run(command.organisation):
        yield Done()


@router.answers(Ask, workers=WORKERS)
async def ask(query: Ask, running: Running) -> Done:
    async with running.run(query.organisation):
        return Done()


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    server = Nats(tmp_path_factory.mktemp("crowds"))
    with running(server):
        yield server


@pytest.fixture
async def service(nats: Nats) -> AsyncIterator[tuple[Bus, Running]]:
    async with connected(nats, "probe") as service:
        started = Running()
        router.attach(service, started)
        await service.start_subscribers()
        await service.client.flush()  # nats-py sends the first ping before what is pending
        yield service, started
        started.end.set()


@pytest.fixture
async def bus(nats: Nats, service: tuple[Bus, Running]) -> AsyncIterator[Bus]:
    assert service
    async with connected(nats) as bus:
        yield bus


async def held(bus: Bus, organisation: str, **fields: str) -> object:
    async with contextlib.aclosing(bus.stream_request(Hold(principal=member(organisation), **fields))) as parts:
        return [part async for part in parts]


async def until_running(running: Running, count: int) -> None:
    async with asyncio.timeout(5):
        while len(running.organisations) < count:  # noqa: ASYNC110 - filled by several tasks
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(running.organisations) == count


async def end_all(tasks: "list[asyncio.Task[object]]", service: tuple[Bus, Running]) -> None:
    """End the calls; all workers and all room are free then."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    service_bus, running = service
    async with asyncio.timeout(5):
        while running.organisations or service_bus.budget._limiter.free < admission.MAX_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_streams_of_one_organisation_leave_workers_to_others(bus: Bus, service: tuple[Bus, Running]) -> None:
    _, running = service
    crowd = [asyncio.create_task(held(bus, "tm_1")) for _ in range(40)]
    await until_running(running, 6)
    other = asyncio.create_task(held(bus, "tm_2"))
    await until_running(running, 7)
    assert running.organisations.count("tm_2") == 1
    assert bus._streamed._budget._limiter.held("tm_1") > 0
    await end_all([*crowd, other], service)
    assert bus._streamed._budget._limiter.free == admission.MAX_BYTES
    again = [asyncio.create_task(held(bus, "tm_1")) for _ in range(40)]
    await until_running(running, 6)
    await end_all(again, service)


async def test_queries_of_one_organisation_leave_workers_to_others(bus: Bus, service: tuple[Bus, Running]) -> None:
    _, running = service
    crowd = [asyncio.create_task(bus.request(Ask(principal=member("tm_1")), timeout_seconds=20)) for _ in range(40)]
    await until_running(running, 6)
    other = asyncio.create_task(bus.request(Ask(principal=member("tm_2")), timeout_seconds=20))
    await until_running(running, 7)
    running.end.set()
    assert await asyncio.gather(*crowd, other) == [Done()] * 41


async def test_a_stream_that_gets_no_worker_in_time_is_refused(
    bus: Bus, service: tuple[Bus, Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_calls, "QUEUE_SECONDS", 0.2)
    _, running = service
    crowd = [asyncio.create_task(held(bus, "tm_1")) for _ in range(6)]
    await until_running(running, 6)
    with pytest.raises(Unavailable, match="more to do") as refused:
        await held(bus, "tm_1")
    assert refused.value.retry_after_seconds
    await end_all(crowd, service)


@pytest.mark.parametrize("side", ["the caller's process", "the service"])
async def test_requests_beyond_the_share_of_an_organisation_are_refused_at_once(
    bus: Bus, service: tuple[Bus, Running], side: str
) -> None:
    """Six requests of 4 MB are three quarters of the room."""
    service_bus, running = service
    budget = bus._streamed._budget if side == "the caller's process" else service_bus.budget
    other_side = service_bus.budget if budget is not service_bus.budget else bus._streamed._budget
    other_side._limiter._free *= 100
    text = "x" * 4_200_000
    crowd = [asyncio.create_task(held(bus, "tm_1", text=text)) for _ in range(6)]
    await until_running(running, 6)
    with pytest.raises(RateLimited, match="Your organisation") as refused:
        await held(bus, "tm_1", text=text)
    assert refused.value.retry_after_seconds
    other = asyncio.create_task(held(bus, "tm_2", text=text))
    await until_running(running, 7)
    with pytest.raises(Unavailable, match="as fit"):
        await held(bus, "tm_3", text=text)
    running.end.set()
    await asyncio.gather(*crowd, other)
    assert budget._limiter.free == admission.MAX_BYTES
