"""What goes on over a cluster while one of its nodes goes away: appends, a reader, jobs, requests."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from nats.js.api import RetentionPolicy

from shared import ids
from shared.bus import JOBS, JOBS_SUBJECTS, Batch, Bus, Router, StreamSpec, consume, ensure_stream
from shared.contracts.message import Job
from shared.errors import Unavailable
from tests.integration.bus.bus_probe import Calls, Echo
from tests.integration.bus.bus_probe import router as probe_router
from tests.integration.bus.job_fixtures import job_class, job_of
from tests.integration.bus.nats_cluster import REPLICAS, NatsCluster, Node

LOGS = "LOGS"


class Activity:
    """Something that is done again and again: what succeeded, and the longest time without success."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.succeeded: list[Any] = []
        self._last: float | None = None
        self.standstill_seconds = 0.0

    def note(self, what: object) -> None:
        """Note a success."""
        now = time.monotonic()
        if self._last is not None:
            self.standstill_seconds = max(self.standstill_seconds, now - self._last)
        self._last = now
        self.succeeded.append(what)

    async def repeat(self, do: Callable[[int], Awaitable[object]], ended: asyncio.Event) -> None:
        """Do it with 0, 1, 2 …, each again until it succeeds, as a caller who heeds a 503; until `ended`."""
        number = 0
        while not ended.is_set():
            try:
                self.note(await do(number))
                number += 1
            except Unavailable:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.01)


class Workload:
    """Five activities. Appends go over a connection to the first node, the rest is spread."""

    def __init__(self, first: Bus, second: Bus, third: Bus) -> None:
        self.job: type[Job] = job_class()
        self.appended = [Activity("appends on the node that goes away"), Activity("appends on another node")]
        self.read = Activity("a reader on the node that goes away")
        self.enqueued = Activity("jobs enqueued")
        self.worked = Activity("jobs done by a worker on the node that goes away")
        self.answered = Activity("requests from another node, to a service on the node that goes away")
        self._first, self._second, self._third = first, second, third

    @property
    def activities(self) -> list[Activity]:
        """All of them."""
        return [*self.appended, self.read, self.enqueued, self.worked, self.answered]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep everything going; at the end nothing more is begun, and the reader and the worker go on."""
        await self._start_receivers()
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for activity, do in (
                (self.appended[0], lambda number: self._append(self._first, f"first {number}")),
                (self.appended[1], lambda number: self._append(self._second, f"second {number}")),
                (self.enqueued, self._enqueue),
                (self.answered, self._ask),
            ):
                group.create_task(activity.repeat(do, ended))
            try:
                yield
            finally:
                ended.set()

    async def _start_receivers(self) -> None:
        async def read(batch: Batch) -> None:
            for message in batch.messages:
                self.read.note(message.data.decode())

        async def work(job: Job, _: None) -> None:
            self.worked.note(job.id)

        await consume(self._first, LOGS, "reader", read)
        router = Router[None]()
        router.works(self.job)(work)
        router.attach(self._first, None)
        probe_router.attach(self._first, Calls())
        await self._first.start_subscribers()

    async def _append(self, bus: Bus, text: str) -> str:
        await bus.append("logs.test", text.encode(), message_id=text)
        return text

    async def _enqueue(self, number: int) -> str:
        job = job_of(self.job, f"job_{number}_{ids.mint('x')}")
        await self._third.enqueue(job)
        return job.id

    async def _ask(self, number: int) -> str:
        return (await self._second.request(Echo(text=str(number)), timeout_seconds=2)).text


async def make_streams(bus: Bus) -> None:
    """Create `LOGS` and `JOBS` with three copies."""
    jobs = StreamSpec(JOBS, (JOBS_SUBJECTS,), RetentionPolicy.WORK_QUEUE, replicas=REPLICAS)
    for spec in (StreamSpec(LOGS, ("logs.>",), replicas=REPLICAS), jobs):
        await ensure_stream(bus, spec)


@contextlib.asynccontextmanager
async def connected_workload(cluster: NatsCluster, goes_away: Node) -> AsyncIterator[Workload]:
    """Yield a workload; one of its three buses is connected to the node that will go away."""
    others = [node for node in cluster.nodes if node is not goes_away]
    async with (
        cluster.connected(goes_away, "probe") as first,
        cluster.connected(others[0]) as second,
        cluster.connected(others[1]) as third,
    ):
        yield Workload(first, second, third)


async def stored(bus: Bus, stream: str) -> list[str]:
    """Return the payloads of all messages of a stream, in order."""
    texts: list[str] = []
    done = asyncio.Event()
    last = (await bus.client.jetstream().stream_info(stream)).state.last_seq

    async def read(batch: Batch) -> None:
        texts.extend(message.data.decode() for message in batch.messages)
        if batch.messages[-1].metadata.sequence.stream >= last:
            done.set()

    await consume(bus, stream, ids.mint("check"), read)
    async with asyncio.timeout(20):
        await done.wait()
    return texts
