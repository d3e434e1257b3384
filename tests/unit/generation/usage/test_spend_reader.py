"""Callers share reads, and none gets one that had begun before it came."""

import asyncio
from collections.abc import Iterable

import pytest

from services.generation.store import SpendKey
from services.generation.usage.spend_reader import SpendReader
from shared.errors import Unavailable

ONE, OTHER = (SpendKey("tm_1", "2026-11", "project", project) for project in ("pr_1", "pr_2"))


class SteppedStore:
    """Answers a read when it is let go, with the number of the read."""

    def __init__(self) -> None:
        self.reads: list[set[SpendKey]] = []
        self.go = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def get_spend(self, keys: Iterable[SpendKey]) -> dict[SpendKey, int]:
        self.reads.append(set(keys))
        number = len(self.reads)
        await self.go.acquire()
        if self.error:
            raise self.error
        return dict.fromkeys(keys, number)


@pytest.fixture
def store() -> SteppedStore:
    return SteppedStore()


async def until_reads(store: SteppedStore, count: int) -> None:
    async with asyncio.timeout(5):
        while len(store.reads) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_who_comes_during_a_read_shares_the_next(store: SteppedStore) -> None:
    reader = SpendReader(store)
    first = asyncio.create_task(reader.read("tm_1", [ONE]))
    await until_reads(store, 1)
    later = [asyncio.create_task(reader.read("tm_1", [key])) for key in (ONE, OTHER, ONE)]
    await asyncio.sleep(0)
    store.go.release()
    assert (await first)[ONE] == 1
    store.go.release()
    assert [spent[key] for spent, key in zip(await asyncio.gather(*later), (ONE, OTHER, ONE), strict=True)] == [2, 2, 2]
    assert store.reads == [{ONE}, {ONE, OTHER}]


async def test_organisations_do_not_wait_for_one_another(store: SteppedStore) -> None:
    reader, other = SpendReader(store), SpendKey("tm_2", "2026-11", "organisation", None)
    reads = [asyncio.create_task(reader.read("tm_1", [ONE])), asyncio.create_task(reader.read("tm_2", [other]))]
    await until_reads(store, 2)
    store.go.release()
    store.go.release()
    await asyncio.gather(*reads)


async def test_a_caller_who_leaves_takes_the_read_from_nobody(store: SteppedStore) -> None:
    reader = SpendReader(store)
    leaving, staying = (asyncio.create_task(reader.read("tm_1", [ONE])) for _ in range(2))
    await until_reads(store, 1)
    leaving.cancel()
    store.go.release()
    assert await staying == {ONE: 1}
    assert len(store.reads) == 1


async def test_a_failed_read_is_told_to_its_callers_alone(store: SteppedStore) -> None:
    reader = SpendReader(store)
    store.error = Unavailable("away")
    store.go.release()
    with pytest.raises(Unavailable):
        await reader.read("tm_1", [ONE])
    store.error = None
    store.go.release()
    assert await reader.read("tm_1", [ONE]) == {ONE: 2}
