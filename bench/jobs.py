"""Jobs: enqueued, and worked on by a handler that does nothing; plain appends to a stream beside them."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import ClassVar

from bench.rounds import ROUNDS, spread
from bench.stack import Stack
from shared import ids
from shared.bus import Bus, Router
from shared.contracts.message import Job
from shared.settings import ServiceSettings

AT_ONCE = 64
WORKERS = 32
_PLAIN = "jobs.bench.plain"


class Nothing(Job):
    """No work: what is measured is the way to it."""

    subject: ClassVar[str] = "jobs.bench.nothing"

    log_id: str = "data_0123456789abcdefghijk"


async def measure_jobs(stack: Stack, *, number: int) -> dict[str, object]:
    """Jobs per second enqueued by 64 callers at once, then worked on by 32 workers of one process, a round each."""
    number -= number % AT_ONCE
    rounds = [await _round(stack, number) for _ in range(ROUNDS)]
    plain, enqueued, worked = (list(rates) for rates in zip(*rounds, strict=True))
    return {
        "plain_appends_per_second": spread(plain),
        "enqueued_jobs_per_second": spread(enqueued),
        "worked_jobs_per_second": spread(worked),
        "callers": AT_ONCE,
        "workers": WORKERS,
        "jobs": number,
        "rounds": ROUNDS,
    }


async def _round(stack: Stack, number: int) -> tuple[float, float, float]:
    """Plain appends, jobs enqueued and jobs worked on, each per second."""
    done: asyncio.Queue[str] = asyncio.Queue()
    router = Router[None]()

    @router.works(Nothing, workers=WORKERS)
    async def work(job: Nothing, _: None) -> None:
        done.put_nowait(job.id)

    payload = Nothing(id="x" * 25, organisation="tm_bench").model_dump_json().encode()
    bus, worker = _bus(stack), _bus(stack)
    await bus.open()
    await worker.open()
    try:
        plain = await _rate(number, lambda: bus.append(_PLAIN, payload, message_id=ids.mint("plain")))
        enqueued = await _rate(number, lambda: bus.enqueue(Nothing(id=ids.mint("job"), organisation="tm_bench")))
        started = perf_counter()
        router.attach(worker, None)
        for _ in range(number):
            await done.get()
        worked = number / (perf_counter() - started)
    finally:
        await worker.close()
        await bus.client.jetstream().purge_stream("JOBS", subject="jobs.bench.>")
        await bus.close()
    return plain, enqueued, worked


async def _rate(number: int, act: Callable[[], Awaitable[object]]) -> float:
    async def run_some(count: int) -> None:
        for _ in range(count):
            await act()

    started = perf_counter()
    await asyncio.gather(*(run_some(number // AT_ONCE) for _ in range(AT_ONCE)))
    return number / (perf_counter() - started)


def _bus(stack: Stack) -> Bus:
    """As the operator: the measurement belongs to no service."""
    url, password = stack.bus_login()
    return Bus(
        ServiceSettings(nats_url=url, nats_user="operator", nats_password=password),
        "bench",
    )
