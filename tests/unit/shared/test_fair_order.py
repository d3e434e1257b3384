"""Requests begin with organisations in turn, and few in each round of the event loop."""

import asyncio

from shared.fair_order import ITEMS_PER_TURN, MAX_PER_ROUND, FairOrder


async def begin(order: FairOrder, organisation: str, begun: list[str]) -> None:
    await order.wait(organisation)
    begun.append(organisation)


async def test_few_requests_begin_in_each_round() -> None:
    order, begun = FairOrder(), list[str]()
    tasks = [asyncio.create_task(begin(order, "crowd", begun)) for _ in range(40)]
    most, before = 0, 0
    while len(begun) < 40:
        await asyncio.sleep(0)
        most, before = max(most, len(begun) - before), len(begun)
    assert most == MAX_PER_ROUND
    await asyncio.gather(*tasks)
    await asyncio.wait_for(order.wait("crowd"), 1)


async def test_one_that_comes_behind_a_crowd_begins_before_most_of_it() -> None:
    order, begun = FairOrder(), list[str]()
    crowd = [asyncio.create_task(begin(order, "crowd", begun)) for _ in range(1000)]
    await asyncio.sleep(0)
    victims = [asyncio.create_task(begin(order, organisation, begun)) for organisation in ("a", "b")]
    await asyncio.gather(*victims)
    assert len(begun) <= 8 * MAX_PER_ROUND
    await asyncio.gather(*crowd)


async def test_requests_of_one_organisation_begin_as_they_came() -> None:
    order, begun = FairOrder(), list[int]()

    async def numbered(number: int) -> None:
        await order.wait("a")
        begun.append(number)

    await asyncio.gather(*(numbered(number) for number in range(50)))
    assert begun == list(range(50))


async def test_a_request_that_is_cancelled_takes_no_turn() -> None:
    order, begun = FairOrder(), list[str]()
    waiting = [asyncio.create_task(begin(order, "gone", begun)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await asyncio.wait_for(order.wait("here"), 1)
    await asyncio.sleep(0.01)
    assert not order._waiting
    assert len(begun) <= MAX_PER_ROUND


async def test_the_items_of_a_large_request_let_others_begin() -> None:
    order, seen, rounds = FairOrder(), list[int](), 0

    async def work() -> None:
        async for item in order.in_turns("crowd", range(1000)):
            seen.append(item)

    task = asyncio.create_task(work())
    while not task.done():
        before = len(seen)
        await asyncio.sleep(0)
        assert len(seen) - before <= ITEMS_PER_TURN * (MAX_PER_ROUND + 1)
        rounds += 1
    assert seen == list(range(1000))
    assert rounds >= 1000 / ITEMS_PER_TURN / (MAX_PER_ROUND + 1)
