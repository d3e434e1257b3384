"""Many jobs over two processes that are killed now and then: all done, few twice, none dead."""

import asyncio
import time
from pathlib import Path

import pytest

from shared.bus import Bus
from shared.mongo import Database, connect, initiate_replica_set
from shared.settings import DatabaseSettings
from tests.integration.bus.job_fixtures import ORGANISATION, Worker, dead_letters, make_streams, until, waiting
from tests.integration.bus.job_worker import COUNT_WORKERS, Count
from tests.integration.servers import Mongo, Nats, connected, running

WORKERS = 2
_ENQUEUED_AT_ONCE = 64


async def test_jobs_over_two_workers_with_kills_are_all_done(tmp_path: Path) -> None:
    await all_done(tmp_path, jobs=1500, kills=4)


@pytest.mark.long
async def test_ten_thousand_jobs_over_two_workers_with_kills_are_all_done(tmp_path: Path) -> None:
    await all_done(tmp_path, jobs=10_000, kills=20)


async def all_done(folder: Path, *, jobs: int, kills: int) -> None:
    nats, mongo = Nats(folder), Mongo(folder)
    with running(nats), running(mongo):
        await initiate_replica_set(f"mongodb://127.0.0.1:{mongo.port}", f"127.0.0.1:{mongo.port}")
        database = connect(DatabaseSettings(mongo_url=mongo.url), "probe")
        workers = [Worker(nats, folder, f"worker-{number}", EVERLOOP_MONGO_URL=mongo.url) for number in range(WORKERS)]
        async with connected(nats, "probe") as bus:
            await make_streams(bus)
            with running(workers[0]), running(workers[1]):
                await asyncio.gather(enqueue(bus, jobs), kill_now_and_then(bus, workers, jobs, kills))
                await until(lambda: none_left(bus), 120)
            executions = await counted(database)
            letters = await dead_letters(bus)
        database.client.close()
    twice = sum(count - 1 for count in executions.values())
    print(f"{jobs} jobs, {kills} kills: {twice} executions too many")
    assert set(executions) == {f"job_{number}" for number in range(jobs)}
    assert not letters
    # What a killed process had in hand, and a job or two whose acknowledgement it had written and not sent.
    assert twice <= kills * (COUNT_WORKERS + 2)


async def enqueue(bus: Bus, jobs: int) -> None:
    places = asyncio.Semaphore(_ENQUEUED_AT_ONCE)

    async def one(number: int) -> None:
        async with places:
            await bus.enqueue(Count(id=f"job_{number}", organisation=ORGANISATION))

    started = time.monotonic()
    await asyncio.gather(*(one(number) for number in range(jobs)))
    print(f"enqueued {jobs / (time.monotonic() - started):.0f} jobs/s")


async def kill_now_and_then(bus: Bus, workers: list[Worker], jobs: int, kills: int) -> None:
    """A process each time when another share of the jobs is done; started again at once."""
    for number in range(kills):
        await until(lambda: done(bus, (number + 1) * jobs // (kills + 2)), 120)  # noqa: B023 - awaited in its round
        victim = workers[number % WORKERS]
        await asyncio.to_thread(victim.kill)
        await asyncio.to_thread(victim.start)


async def done(bus: Bus, wanted: int) -> bool:
    state = (await bus.client.jetstream().stream_info("JOBS")).state
    return state.last_seq - state.messages >= wanted


async def none_left(bus: Bus) -> bool:
    return await waiting(bus) == 0


async def counted(database: Database) -> dict[str, int]:
    return {document["_id"]: document["executions"] async for document in database["counts"].find()}
