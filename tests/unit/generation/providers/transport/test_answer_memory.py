"""What is held of answers: small ones are not counted, large ones wait for each other, and none for ever."""

import asyncio

from services.generation.providers.transport.answer_memory import FREE_BYTES, MAX_BYTES, STEP_BYTES, AnswerMemory

SHARE = MAX_BYTES * 3 // 4
"""Of one organisation alone."""


async def is_waiting(task: "asyncio.Task[None]") -> bool:
    await asyncio.sleep(0.01)
    return not task.done()


async def full_memory() -> AnswerMemory:
    """Return a memory of which an organisation, `tm_1`, has its share and the answer that may take more."""
    memory = AnswerMemory()
    await memory.hold("tm_1").add(SHARE)
    await memory.hold("tm_1").add(FREE_BYTES + STEP_BYTES)
    return memory


async def test_small_answers_need_no_room() -> None:
    memory = await full_memory()
    async with asyncio.timeout(1):
        await memory.hold("tm_1").add(FREE_BYTES)


async def test_pieces_add_up_until_they_are_released() -> None:
    memory = await full_memory()
    answer = memory.hold("tm_1")
    for _ in range(2):
        await answer.add(FREE_BYTES)
        waiting = asyncio.create_task(answer.add(1))
        assert await is_waiting(waiting)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        answer.release()


async def test_what_is_released_twice_is_free_once() -> None:
    memory = AnswerMemory()
    first, second, third = (memory.hold("tm_1") for _ in range(3))
    await first.add(SHARE // 2)
    first.release()
    first.release()
    await second.add(SHARE + FREE_BYTES)
    await third.add(SHARE)
    another = asyncio.create_task(memory.hold("tm_1").add(FREE_BYTES + STEP_BYTES))
    assert await is_waiting(another)
    another.cancel()


async def test_a_large_answer_waits_until_another_is_released() -> None:
    memory = AnswerMemory()
    first, second, third = (memory.hold("tm_1") for _ in range(3))
    await first.add(SHARE + FREE_BYTES)
    await second.add(SHARE)  # the one that may take more than there is
    waiting = asyncio.create_task(third.add(FREE_BYTES + STEP_BYTES))
    assert await is_waiting(waiting)
    await memory.hold("tm_2").add(FREE_BYTES + 1)  # another organisation has a share of its own
    assert await is_waiting(waiting)
    first.release()
    await asyncio.wait_for(waiting, 1)


async def test_who_waits_takes_the_place_of_the_one_that_took_more() -> None:
    memory = AnswerMemory()
    first, second, third = (memory.hold("tm_1") for _ in range(3))
    await first.add(SHARE + FREE_BYTES)
    await second.add(SHARE)
    waiting = asyncio.create_task(third.add(SHARE))
    assert await is_waiting(waiting)
    second.release()
    await asyncio.wait_for(waiting, 1)
    another = asyncio.create_task(second.add(SHARE))
    assert await is_waiting(another), "one at a time"
    another.cancel()


async def test_answers_that_grow_at_once_do_not_wait_for_each_other_for_ever() -> None:
    memory = AnswerMemory()
    held = [memory.hold("tm_1") for _ in range(8)]

    async def receive(number: int) -> None:
        for _ in range(SHARE // STEP_BYTES):
            await held[number].add(STEP_BYTES)
            await asyncio.sleep(0)
        held[number].release()

    await asyncio.wait_for(asyncio.gather(*(receive(number) for number in range(8))), 5)


async def test_a_call_that_is_cancelled_while_it_waits_leaves_nothing() -> None:
    memory = AnswerMemory()
    first, second, third = (memory.hold("tm_1") for _ in range(3))
    await first.add(SHARE + FREE_BYTES)
    await second.add(SHARE)
    waiting = asyncio.create_task(third.add(SHARE))
    assert await is_waiting(waiting)
    waiting.cancel()
    first.release()  # before the cancelled call runs on
    await asyncio.gather(waiting, return_exceptions=True)
    third.release()
    second.release()
    await asyncio.wait_for(memory.hold("tm_1").add(SHARE + FREE_BYTES), 1)
    await asyncio.wait_for(memory.hold("tm_1").add(SHARE), 1)
