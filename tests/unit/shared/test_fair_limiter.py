"""Permits shared by organisations: shares, the order of those who wait, and no permit lost by any cancellation."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.fair_limiter import FairLimiter


def take_all(limiter: FairLimiter, organisation: str) -> int:
    """Take permits until none is given; return how many were."""
    taken = 0
    while limiter.try_acquire(organisation):
        taken += 1
    return taken


@pytest.mark.parametrize(("permits", "share"), [(1, 1), (2, 2), (4, 3), (64, 48), (256, 192), (1024, 768)])
def test_one_organisation_alone_gets_three_quarters(permits: int, share: int) -> None:
    assert take_all(FairLimiter(permits), "tm_1") == share


def test_organisations_that_take_all_they_can_leave_some_for_the_next() -> None:
    limiter = FairLimiter(1024)
    assert [take_all(limiter, f"tm_{number}") for number in range(5)] == [768, 192, 48, 12, 3]
    assert limiter.free == 1
    assert limiter.try_acquire("tm_6")


def test_amounts_are_taken_whole_or_not_at_all() -> None:
    limiter = FairLimiter(100)
    assert limiter.try_acquire("tm_1", 60)
    assert limiter.try_acquire("tm_1", 30), "it held less than its share"
    assert not limiter.try_acquire("tm_1", 1), "now it holds more"
    assert not limiter.try_acquire("tm_2", 11)
    assert limiter.try_acquire("tm_2", 10)
    limiter.release("tm_1", 90)
    assert (limiter.free, limiter.held("tm_1"), limiter.held("tm_2")) == (90, 0, 10)


async def wait(limiter: FairLimiter, organisation: str, served: list[str]) -> None:
    await limiter.acquire(organisation)
    served.append(organisation)


async def test_a_newcomer_does_not_queue_behind_the_calls_of_another_organisation() -> None:
    limiter, served = FairLimiter(4), list[str]()
    assert take_all(limiter, "crowd") == 3
    assert limiter.try_acquire("other")
    tasks = [asyncio.create_task(wait(limiter, "crowd", served)) for _ in range(50)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(wait(limiter, "newcomer", served)))
    await asyncio.sleep(0)
    limiter.release("crowd")
    await asyncio.sleep(0)
    assert served == ["newcomer"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_calls_of_one_organisation_are_served_in_order() -> None:
    limiter, served = FairLimiter(1), list[int]()

    async def call(number: int) -> None:
        async with limiter.hold("tm_1"):
            served.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert served == list(range(20))
    assert limiter.free == 1


async def test_a_permit_that_is_granted_to_a_cancelled_caller_goes_to_the_next() -> None:
    limiter, served = FairLimiter(1), list[str]()
    await limiter.acquire("tm_1")
    cancelled = asyncio.create_task(wait(limiter, "tm_1", served))
    following = asyncio.create_task(wait(limiter, "tm_2", served))
    await asyncio.sleep(0)
    limiter.release("tm_1")
    cancelled.cancel()  # after its permit was granted, before it runs
    await asyncio.gather(cancelled, following, return_exceptions=True)
    assert cancelled.cancelled()
    assert served == ["tm_2"]


Steps = list[tuple[str, int]]
STEPS = st.lists(
    st.tuples(st.sampled_from(["call tm_1", "call tm_2", "call tm_3", "end", "cancel", "run"]), st.integers(0, 10**6)),
    max_size=80,
)


@settings(deadline=None)
@given(permits=st.integers(1, 9), steps=STEPS)
def test_no_permit_is_lost_whatever_is_cancelled(permits: int, steps: Steps) -> None:
    asyncio.run(_run(permits, steps))


async def _run(permits: int, steps: Steps) -> None:
    """Start, end and cancel calls at any moment, also several between two turns of the loop."""
    limiter, calls = FairLimiter(permits), list[tuple[asyncio.Task[Any], asyncio.Event]]()
    running = 0

    async def call(organisation: str, end: asyncio.Event) -> None:
        nonlocal running
        async with limiter.hold(organisation):
            running += 1
            assert running <= permits
            try:
                await end.wait()
            finally:
                running -= 1

    for step, number in steps:
        if step.startswith("call"):
            end = asyncio.Event()
            calls.append((asyncio.create_task(call(step.removeprefix("call "), end)), end))
        elif step == "run":
            await asyncio.sleep(0)
        elif calls:
            task, end = calls[number % len(calls)]
            if step == "end":
                end.set()
            else:
                task.cancel()
    for _, end in calls:
        end.set()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*(task for task, _ in calls), return_exceptions=True)
    assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results), results
    assert limiter.free == permits
    assert not limiter._held
    assert not limiter._waiting
