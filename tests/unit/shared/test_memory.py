"""Answers of others, remembered."""

import asyncio

import pytest

from shared.errors import NotFound, Unavailable
from shared.memory import Memory


class Source:
    """Answers with a count of how often it was asked; `error` is raised in its place."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> int:
        self.asked += 1
        answer = self.asked
        await self.gate.wait()
        if self.error:
            raise self.error
        return answer


def memory(fresh_seconds: float = 60, most: int = 10) -> Memory[str, int]:
    return Memory(most=most, fresh_seconds=fresh_seconds, stale_seconds=60)


async def test_what_is_fresh_is_not_asked_again() -> None:
    remembered, source = memory(), Source()
    assert [await remembered.get("a", source) for _ in range(3)] == [1, 1, 1]


async def test_what_is_old_is_asked_again() -> None:
    remembered, source = memory(fresh_seconds=0), Source()
    assert [await remembered.get("a", source) for _ in range(3)] == [1, 2, 3]


async def test_those_who_ask_at_once_share_one_question() -> None:
    remembered, source = memory(), Source()
    assert await asyncio.gather(*(remembered.get("a", source) for _ in range(50))) == [1] * 50


async def test_what_is_old_serves_on_while_nobody_answers() -> None:
    remembered, source = memory(fresh_seconds=0), Source()
    await remembered.get("a", source)
    source.error = Unavailable("away")
    assert await remembered.get("a", source) == 1
    assert await remembered.get("a", source) == 1
    assert source.asked == 2, "a respite between tries"


async def test_who_does_not_answer_in_time_does_not_keep_callers_waiting() -> None:
    remembered, source = memory(fresh_seconds=0), Source()
    await remembered.get("a", source)
    source.gate.clear()
    async with asyncio.timeout(2):
        assert await remembered.get("a", source) == 1
    source.gate.set()


async def test_a_refusal_is_not_outlived_by_the_old_answer() -> None:
    remembered, source = memory(fresh_seconds=0), Source()
    await remembered.get("a", source)
    source.error = NotFound("gone")
    for _ in range(2):
        with pytest.raises(NotFound):
            await remembered.get("a", source)


async def test_who_was_never_known_is_not_known_while_nobody_answers() -> None:
    remembered, source = memory(), Source()
    source.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await remembered.get("a", source)


async def test_what_was_asked_before_a_change_is_not_remembered_after_it() -> None:
    remembered, source = memory(), Source()
    source.gate.clear()
    early = asyncio.create_task(remembered.get("a", source))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    remembered.forget(lambda _, __: True)
    source.gate.set()
    assert await early == 1
    assert await remembered.get("a", source) == 2


async def test_only_what_a_change_concerns_is_forgotten() -> None:
    remembered, source = memory(), Source()
    await remembered.get("a", source)
    await remembered.get("b", source)
    remembered.forget(lambda key, _: key == "a")
    assert await remembered.get("b", source) == 2
    assert await remembered.get("a", source) == 3


async def test_the_longest_unused_is_forgotten_first() -> None:
    remembered, source = memory(most=2), Source()
    for key in ("a", "b", "a", "c"):
        await remembered.get(key, source)
    assert await remembered.get("a", source) == 1
    assert await remembered.get("b", source) == 4
