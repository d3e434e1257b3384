"""Reads wait for what was accepted before them, and for nothing else."""

import asyncio

from services.logging.read_barrier import ReadBarrier
from shared.bus import ConsumerProgress
from shared.errors import Unavailable

WAIT_SECONDS = 2.0


class Server:
    """What the stream would say."""

    def __init__(self, last: int = 0, floor: int = 0, *, delay: float = 0) -> None:
        self.last, self.floor, self.delay = last, floor, delay
        self.asked = 0

    async def __call__(self) -> ConsumerProgress:
        self.asked += 1
        answer = ConsumerProgress(1, self.last, self.floor)
        await asyncio.sleep(self.delay)
        return answer


async def test_nothing_to_wait_for_costs_one_question() -> None:
    server = Server(last=5, floor=5)
    assert await ReadBarrier(server, WAIT_SECONDS).wait_until_stored()
    assert server.asked == 1


async def test_a_read_goes_on_as_soon_as_this_process_has_stored_what_was_missing() -> None:
    server = Server(last=5, floor=3)
    where = ReadBarrier(server, WAIT_SECONDS)
    reading = asyncio.create_task(where.wait_until_stored())
    await asyncio.sleep(0.001)
    where.stored([5])
    await asyncio.sleep(0)
    assert not reading.done(), "4 is still missing"
    where.stored([4])
    await asyncio.wait_for(reading, 0.1)


async def test_a_read_does_not_wait_for_what_came_after_it() -> None:
    server = Server(last=5, floor=3)
    where = ReadBarrier(server, WAIT_SECONDS)
    reading = asyncio.create_task(where.wait_until_stored())
    await asyncio.sleep(0.001)
    server.last = 99
    where.stored([4, 5])
    await asyncio.wait_for(reading, 0.1)


async def test_what_another_replica_stored_is_heard_from_the_server() -> None:
    server = Server(last=5, floor=3)
    reading = asyncio.create_task(ReadBarrier(server, WAIT_SECONDS).wait_until_stored())
    await asyncio.sleep(0.01)
    assert not reading.done()
    server.floor = 5
    await asyncio.wait_for(reading, 0.2)


async def test_questions_are_shared_but_never_older_than_the_read() -> None:
    server = Server(last=1, floor=1, delay=0.02)
    where = ReadBarrier(server, WAIT_SECONDS)
    first = asyncio.create_task(where.wait_until_stored())
    await asyncio.sleep(0.01)
    server.last = 2  # accepted while the first question is under way
    later = [asyncio.create_task(where.wait_until_stored()) for _ in range(50)]
    await first
    assert server.asked <= 2
    await asyncio.sleep(0.03)
    assert not any(task.done() for task in later), "they must know of 2"
    where.stored([2])
    await asyncio.gather(*later)


async def test_patience_is_bounded() -> None:
    assert await asyncio.wait_for(ReadBarrier(Server(last=5), 0.05).wait_until_stored(), 0.5) is False


async def test_a_bus_that_does_not_answer_does_not_stop_reads() -> None:
    async def away() -> ConsumerProgress:
        raise Unavailable("away")

    assert await asyncio.wait_for(ReadBarrier(away, WAIT_SECONDS).wait_until_stored(), 0.1) is False


async def test_a_stream_made_anew_begins_anew() -> None:
    server = Server(last=100, floor=100)
    where = ReadBarrier(server, WAIT_SECONDS)
    await where.wait_until_stored()
    server.last, server.floor = 2, 1
    reading = asyncio.create_task(where.wait_until_stored())
    await asyncio.sleep(0.005)
    assert not reading.done()
    where.stored([2])
    await asyncio.wait_for(reading, 0.1)


async def test_a_read_that_is_given_up_does_not_take_the_question_from_the_others() -> None:
    server = Server(last=1, floor=1, delay=0.02)
    where = ReadBarrier(server, WAIT_SECONDS)
    given_up, stays = asyncio.create_task(where.wait_until_stored()), asyncio.create_task(where.wait_until_stored())
    await asyncio.sleep(0.005)
    given_up.cancel()
    await asyncio.wait_for(stays, 0.5)
