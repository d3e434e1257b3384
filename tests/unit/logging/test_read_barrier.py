"""The read barrier waits for what was accepted before the read, and for nothing else."""

import asyncio

import pytest

from services.logging.read_barrier import ReadBarrier
from shared.bus import ConsumerProgress
from shared.errors import Unavailable

WAIT_SECONDS = 2.0


class ProgressSource:
    """Answers for the server: last sequence of the stream and floor of the consumer, after `delay` seconds."""

    def __init__(self, last: int = 0, floor: int = 0, *, delay: float = 0) -> None:
        self.last, self.floor, self.delay = last, floor, delay
        self.requests = 0

    async def __call__(self) -> ConsumerProgress:
        self.requests += 1
        answer = ConsumerProgress(1, self.last, self.floor)
        await asyncio.sleep(self.delay)
        return answer


async def test_a_read_with_nothing_to_wait_for_costs_one_request() -> None:
    server = ProgressSource(last=5, floor=5)
    await ReadBarrier(server, WAIT_SECONDS).wait_until_stored()
    assert server.requests == 1


async def test_a_read_continues_once_this_process_has_stored_what_was_missing() -> None:
    server = ProgressSource(last=5, floor=3)
    barrier = ReadBarrier(server, WAIT_SECONDS)
    reading = asyncio.create_task(barrier.wait_until_stored())
    await asyncio.sleep(0.001)
    barrier.mark_stored([5])
    await asyncio.sleep(0)
    assert not reading.done(), "4 is still missing"
    barrier.mark_stored([4])
    await asyncio.wait_for(reading, 0.1)


async def test_a_read_does_not_wait_for_what_was_accepted_after_it() -> None:
    server = ProgressSource(last=5, floor=3)
    barrier = ReadBarrier(server, WAIT_SECONDS)
    reading = asyncio.create_task(barrier.wait_until_stored())
    await asyncio.sleep(0.001)
    server.last = 99
    barrier.mark_stored([4, 5])
    await asyncio.wait_for(reading, 0.1)


async def test_a_read_continues_once_another_replica_has_stored_what_was_missing() -> None:
    server = ProgressSource(last=5, floor=3)
    reading = asyncio.create_task(ReadBarrier(server, WAIT_SECONDS).wait_until_stored())
    await asyncio.sleep(0.01)
    assert not reading.done()
    server.floor = 5
    await asyncio.wait_for(reading, 0.2)


async def test_reads_share_requests_that_are_not_older_than_they_are() -> None:
    server = ProgressSource(last=1, floor=1, delay=0.02)
    barrier = ReadBarrier(server, WAIT_SECONDS)
    first = asyncio.create_task(barrier.wait_until_stored())
    await asyncio.sleep(0.01)
    server.last = 2  # accepted while the first request is under way
    later = [asyncio.create_task(barrier.wait_until_stored()) for _ in range(50)]
    await first
    assert server.requests <= 2
    await asyncio.sleep(0.03)
    assert not any(task.done() for task in later), "they must know of 2"
    barrier.mark_stored([2])
    await asyncio.gather(*later)


async def test_a_read_that_cannot_catch_up_in_time_is_unavailable() -> None:
    with pytest.raises(Unavailable) as refused:
        await asyncio.wait_for(ReadBarrier(ProgressSource(last=5), 0.05).wait_until_stored(), 0.5)
    assert refused.value.retry_after_seconds


async def test_a_read_is_unavailable_at_once_if_it_is_not_known_what_was_accepted() -> None:
    async def unavailable() -> ConsumerProgress:
        raise Unavailable("away")

    barrier = ReadBarrier(unavailable, WAIT_SECONDS)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(barrier.wait_until_stored(), 0.1)
    assert await asyncio.wait_for(barrier.is_stored_in_time(), 0.1) is False


async def test_a_stream_that_was_created_again_starts_from_its_new_sequences() -> None:
    server = ProgressSource(last=100, floor=100)
    barrier = ReadBarrier(server, WAIT_SECONDS)
    await barrier.wait_until_stored()
    server.last, server.floor = 2, 1
    reading = asyncio.create_task(barrier.wait_until_stored())
    await asyncio.sleep(0.005)
    assert not reading.done()
    barrier.mark_stored([2])
    await asyncio.wait_for(reading, 0.1)


async def test_a_cancelled_read_does_not_cancel_the_request_of_the_others() -> None:
    server = ProgressSource(last=1, floor=1, delay=0.02)
    barrier = ReadBarrier(server, WAIT_SECONDS)
    cancelled, other = (
        asyncio.create_task(barrier.wait_until_stored()),
        asyncio.create_task(barrier.wait_until_stored()),
    )
    await asyncio.sleep(0.005)
    cancelled.cancel()
    await asyncio.wait_for(other, 0.5)
