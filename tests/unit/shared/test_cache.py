"""The read-through cache: when entries are returned, fetched again, invalidated and evicted."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

import shared.cache
from shared.cache import Cache
from shared.errors import NotFound, Unavailable

LARGE = "x" * 100


class Source:
    """Returns how often it was called; `error` is raised in its place."""

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


def own_key(key: str, _: object) -> tuple[str]:
    return (key,)


def key_and_parity(key: str, value: int) -> tuple[str, str]:
    """Tags of which one is known only with the answer."""
    return key, f"{value} is {'odd' if value % 2 else 'even'}"


def make_cache(fresh_seconds: float = 60, max_entries: int = 10) -> Cache[str, int]:
    return Cache(tags=own_key, max_entries=max_entries, fresh_seconds=fresh_seconds, stale_seconds=60)


async def test_a_fresh_entry_is_not_fetched_again() -> None:
    cache, source = make_cache(), Source()
    assert [await cache.get("a", source) for _ in range(3)] == [1, 1, 1]


async def test_an_entry_that_is_not_fresh_is_fetched_again() -> None:
    cache, source = make_cache(fresh_seconds=0), Source()
    assert [await cache.get("a", source) for _ in range(3)] == [1, 2, 3]


async def test_concurrent_callers_share_one_fetch() -> None:
    cache, source = make_cache(), Source()
    assert await asyncio.gather(*(cache.get("a", source) for _ in range(50))) == [1] * 50


async def test_the_old_entry_is_returned_while_the_source_is_unavailable() -> None:
    cache, source = make_cache(fresh_seconds=0), Source()
    await cache.get("a", source)
    source.error = Unavailable("away")
    assert await cache.get("a", source) == 1
    assert await cache.get("a", source) == 1
    assert source.asked == 2, "a respite between tries"


async def test_the_old_entry_is_returned_when_a_refresh_takes_too_long() -> None:
    cache, source = make_cache(fresh_seconds=0), Source()
    await cache.get("a", source)
    source.gate.clear()
    async with asyncio.timeout(2):
        assert await cache.get("a", source) == 1
    source.gate.set()


async def test_a_problem_of_the_source_is_raised_in_place_of_the_old_entry() -> None:
    cache, source = make_cache(fresh_seconds=0), Source()
    await cache.get("a", source)
    source.error = NotFound("gone")
    for _ in range(2):
        with pytest.raises(NotFound):
            await cache.get("a", source)


async def test_unavailable_is_raised_when_there_is_no_old_entry() -> None:
    cache, source = make_cache(), Source()
    source.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await cache.get("a", source)


async def start_request(cache: Cache[str, int], key: str, source: Source) -> "asyncio.Task[int]":
    """Return a request under way; it ends when `source.gate` is set."""
    source.gate.clear()
    task = asyncio.create_task(cache.get(key, source))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("tag", ["a", "1 is odd", None])
async def test_an_answer_requested_before_its_invalidation_is_returned_and_not_kept(tag: str | None) -> None:
    cache, source = Cache[str, int](tags=key_and_parity, max_entries=10, fresh_seconds=60, stale_seconds=60), Source()
    early = await start_request(cache, "a", source)
    cache.clear() if tag is None else cache.invalidate(tag)
    late = await start_request(cache, "a", source)
    source.gate.set()
    assert await late == 2, "who asks after the change is not given what was true before it"
    assert await early == 1
    assert await cache.get("a", source) == 2


async def test_an_answer_is_kept_although_something_else_was_invalidated_meanwhile() -> None:
    cache, source = make_cache(), Source()
    early = await start_request(cache, "a", source)
    cache.invalidate("b")
    source.gate.set()
    assert [await early, await cache.get("a", source)] == [1, 1]


async def test_a_discarded_key_is_fetched_again_and_others_are_not() -> None:
    cache, source = make_cache(), Source()
    for key in ("a", "b"):
        await cache.get(key, source)
    cache.discard("a")
    assert [await cache.get("b", source), await cache.get("a", source)] == [2, 3]
    early = await start_request(cache, "c", source)
    cache.discard("c")
    late = await start_request(cache, "c", source)
    source.gate.set()
    assert [await early, await late, await cache.get("c", source)] == [4, 5, 5]


async def test_only_answers_with_the_tag_are_dropped() -> None:
    cache, source = make_cache(), Source()
    await cache.get("a", source)
    await cache.get("b", source)
    cache.invalidate("a")
    assert await cache.get("b", source) == 2
    assert await cache.get("a", source) == 3


async def test_an_invalidated_entry_is_not_returned_while_the_source_is_unavailable() -> None:
    cache, source = make_cache(), Source()
    await cache.get("a", source)
    cache.invalidate("a")
    source.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await cache.get("a", source)


async def test_an_invalidation_stays_in_effect_after_its_number_was_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared.cache, "_MAX_TAGS", 3)
    cache, source = make_cache(), Source()
    await cache.get("a", source)
    cache.invalidate("a")
    await cache.get("b", source)
    for tag in "wxyz":
        cache.invalidate(tag)
    assert await cache.get("a", source) == 3
    await cache.get("c", source)
    assert await cache.get("c", source) == 4


async def test_invalidating_takes_constant_time() -> None:
    """Counted in steps of the interpreter, not in time."""

    def steps(entries: int) -> int:
        cache = make_cache(max_entries=entries)
        for number in range(entries):
            cache._put(str(number), number, ("tm_1",), 0)
        count = 0

        def trace(_frame: FrameType, _event: str, _argument: Any) -> Any:
            nonlocal count
            count += 1
            return trace

        sys.settrace(trace)
        try:
            cache.invalidate("tm_1")
        finally:
            sys.settrace(None)
        return count

    assert steps(20_000) == steps(10)


async def test_the_least_recently_used_entry_is_evicted_first() -> None:
    cache, source = make_cache(max_entries=2), Source()
    for key in ("a", "b", "a", "c"):
        await cache.get(key, source)
    assert await cache.get("a", source) == 1
    assert await cache.get("b", source) == 4


def said(text: str) -> Callable[[], Awaitable[str]]:
    """A source that always gives the text."""

    async def ask() -> str:
        return text

    return ask


def asked(*_: object) -> Awaitable[str]:
    """The source of what should be cache."""
    raise AssertionError("asked again")


async def test_many_large_answers_are_bounded_by_their_size() -> None:
    cache: Cache[str, str] = Cache(tags=own_key, max_entries=1000, fresh_seconds=60, stale_seconds=60, max_bytes=350)
    for key in "abcd":
        await cache.get(key, said(LARGE))
    assert [await cache.get(key, asked) for key in "bcd"] == [LARGE] * 3
    assert await cache.get("a", said("new")) == "new"


async def test_a_dropped_entry_frees_its_bytes() -> None:
    cache: Cache[str, str] = Cache(tags=own_key, max_entries=1000, fresh_seconds=60, stale_seconds=60, max_bytes=350)
    for _ in range(10):
        for key in "abc":
            await cache.get(key, said(LARGE))
        for key in "bc":
            cache.discard(key)
    assert await cache.get("a", asked) == LARGE
    aging: Cache[str, str] = Cache(tags=own_key, max_entries=1000, fresh_seconds=0, stale_seconds=60, max_bytes=350)
    for _ in range(10):
        await aging.get("a", said(LARGE))
    assert aging._bytes == len(LARGE) + 2


async def test_an_answer_over_the_byte_limit_is_not_kept_and_evicts_nothing() -> None:
    cache: Cache[str, str] = Cache(tags=own_key, max_entries=1000, fresh_seconds=60, stale_seconds=60, max_bytes=350)
    await cache.get("a", said(LARGE))
    assert await cache.get("b", said(LARGE * 4)) == LARGE * 4
    assert await cache.get("a", asked) == LARGE
    assert await cache.get("b", said("again")) == "again"


async def test_a_defect_of_a_refresh_nobody_waits_for_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared.cache, "_REFRESH_TIMEOUT_SECONDS", 0.01)
    cache, source = make_cache(fresh_seconds=0), Source()
    await cache.get("a", source)
    source.error = ZeroDivisionError()
    source.gate.clear()
    assert await cache.get("a", source) == 1, "the old entry"
    source.gate.set()
    for _ in range(3):
        await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.message == "a refresh failed"
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


async def test_invalidations_of_other_tags_do_not_keep_answers_from_being_cached() -> None:
    cache, source = make_cache(), Source()
    early = await start_request(cache, "a", source)
    cache.invalidate("b")
    late = await start_request(cache, "a", source)
    cache.invalidate("b")
    source.gate.set()
    assert [await early, await late] == [1, 2]
    assert await cache.get("a", source) == 2
    assert source.asked == 2


async def test_what_many_small_elements_take_counts() -> None:
    cache: Cache[str, object] = Cache(
        tags=own_key, max_entries=10, fresh_seconds=60, stale_seconds=60, max_bytes=100_000
    )

    async def many() -> object:
        return [{}] * 2_000  # 6,000 bytes of JSON

    await cache.get("many", many)
    await cache.get("few", said("a" * 6_000))
    assert await cache.get("few", asked) == "a" * 6_000
    assert await cache.get("many", said("again")) == "again"
