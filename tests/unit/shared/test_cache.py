"""Answers of others, remembered."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.cache import Cache
from shared.errors import NotFound, Unavailable

LARGE = "x" * 100


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


def memory(fresh_seconds: float = 60, most: int = 10) -> Cache[str, int]:
    return Cache(most=most, fresh_seconds=fresh_seconds, stale_seconds=60)


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


async def under_way(remembered: Cache[str, int], key: str, source: Source) -> "asyncio.Task[int]":
    """A question that is asked and not answered: `source.gate` is for that."""
    source.gate.clear()
    task = asyncio.create_task(remembered.get(key, source))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_change_of_something_else_leaves_a_question_under_way() -> None:
    remembered, source = memory(), Source()
    early = await under_way(remembered, "a", source)
    remembered.forget(lambda key, value: key == "b" and value == 1)
    late = await under_way(remembered, "a", source)
    source.gate.set()
    assert [await early, await late, await remembered.get("a", source)] == [1, 1, 1]


@pytest.mark.parametrize(
    "concerns",
    [
        lambda key, _: key == "a",
        lambda _, value: value == 7,
        lambda _, value: 7 == value,  # noqa: SIM300 - the other way round
        lambda _, value: value in (7, 8),
        lambda _, value: value in {7, 8},
        lambda _, value: bool(value) and False,
        lambda _, value: value > 7,
        lambda _, value: value.real == 7,
    ],
    ids=range(8),
)
async def test_a_question_under_way_that_a_change_may_concern_is_answered_and_not_remembered(
    concerns: Callable[[str, int], bool],
) -> None:
    remembered, source = memory(), Source()
    early = await under_way(remembered, "a", source)
    remembered.forget(concerns)
    late = await under_way(remembered, "a", source)
    source.gate.set()
    assert await late == 2, "who asks after the change is not told what was true before it"
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


def said(text: str) -> Callable[[], Awaitable[str]]:
    """A source that always gives the text."""

    async def ask() -> str:
        return text

    return ask


def asked(*_: object) -> Awaitable[str]:
    """The source of what should be remembered."""
    raise AssertionError("asked again")


async def test_many_large_answers_are_bounded_by_their_size() -> None:
    remembered: Cache[str, str] = Cache(most=1000, fresh_seconds=60, stale_seconds=60, most_bytes=350)
    for key in "abcd":
        await remembered.get(key, said(LARGE))
    assert [await remembered.get(key, asked) for key in "bcd"] == [LARGE] * 3
    assert await remembered.get("a", said("new")) == "new"


async def test_what_is_dropped_makes_room_again() -> None:
    remembered: Cache[str, str] = Cache(most=1000, fresh_seconds=60, stale_seconds=60, most_bytes=350)
    for _ in range(10):
        for key in "abc":
            await remembered.get(key, said(LARGE))
        remembered.forget(lambda key, _: key != "a")
    assert await remembered.get("a", asked) == LARGE
    aging: Cache[str, str] = Cache(most=1000, fresh_seconds=0, stale_seconds=60, most_bytes=350)
    for _ in range(10):
        await aging.get("a", said(LARGE))
    assert aging._bytes == len(LARGE) + 2


async def test_what_is_larger_than_all_may_be_drives_nothing_out() -> None:
    remembered: Cache[str, str] = Cache(most=1000, fresh_seconds=60, stale_seconds=60, most_bytes=350)
    await remembered.get("a", said(LARGE))
    assert await remembered.get("b", said(LARGE * 4)) == LARGE * 4
    assert await remembered.get("a", asked) == LARGE
    assert await remembered.get("b", said("again")) == "again"
