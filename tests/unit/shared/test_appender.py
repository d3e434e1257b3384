"""Group commit, with a bus written by hand."""

import asyncio
import json
from collections.abc import Callable

import pytest

from shared import appender as module
from shared.appender import Appender
from shared.errors import TooLarge, Unavailable


class FakeBus:
    """Keeps what is appended. Each append waits for `let_go`; `fail` may raise in its place."""

    def __init__(self) -> None:
        self.messages: list[list[int]] = []
        self.sizes: list[int] = []
        self.message_ids: list[str] = []
        self.fail: Callable[[], None] = lambda: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_away = False

    async def connected_client(self) -> None:
        if self.is_away:
            raise Unavailable("The message bus is away; nothing was stored. Try again.")

    async def append(self, subject: str, payload: bytes, *, message_id: str, **_: object) -> int:
        assert subject == "logs.intake"
        self.message_ids.append(message_id)
        await self.gate.wait()
        self.fail()
        self.messages.append(json.loads(payload))
        self.sizes.append(len(payload))
        return len(self.messages)


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def appender(bus: FakeBus) -> Appender:
    return Appender(bus, "logs.intake")  # type: ignore[arg-type]


def tell(appender: Appender, *groups: list[int]) -> list["asyncio.Task[int]"]:
    return [asyncio.create_task(appender.append([b"%d" % number for number in group])) for group in groups]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_record_is_an_array_of_one(bus: FakeBus, appender: Appender) -> None:
    assert await appender.append([b"1"]) == 1
    assert bus.messages == [[1]]


async def test_what_arrives_in_flight_shares_the_next_append(bus: FakeBus, appender: Appender) -> None:
    bus.gate.clear()
    first = tell(appender, [0])
    await settle()
    others = tell(appender, *([number] for number in range(1, 100)))
    await settle()
    bus.gate.set()
    assert await asyncio.gather(*first) == [1]
    assert set(await asyncio.gather(*others)) == {2}
    assert bus.messages == [[0], list(range(1, 100))], "two syncs for a hundred callers, in the order they came"


async def test_nobody_is_answered_before_the_append_is(bus: FakeBus, appender: Appender) -> None:
    bus.gate.clear()
    tasks = tell(appender, [1], [2])
    await settle()
    assert not any(task.done() for task in tasks)
    bus.gate.set()
    await asyncio.gather(*tasks)


async def test_records_given_together_stay_together(
    bus: FakeBus, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_JOINED_BYTES", 20)
    bus.gate.clear()
    tasks = tell(appender, [1], [1001, 1002, 1003], [2001, 2002], [2003, 2004], [3000 + number for number in range(9)])
    await settle()
    bus.gate.set()
    await asyncio.gather(*tasks)
    for group in ([1001, 1002, 1003], [2001, 2002], [2003, 2004], [3000 + number for number in range(9)]):
        assert any("," + ",".join(map(str, group)) in "," + ",".join(map(str, message)) for message in bus.messages)
    assert [number for message in bus.messages for number in message] == sorted(
        number for message in bus.messages for number in message
    )
    assert all(size <= 21 for size in bus.sizes[:-1]), "only a group that is larger by itself goes alone"


async def test_a_failing_append_tells_everyone_who_waits(bus: FakeBus, appender: Appender) -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    bus.gate.clear()
    bus.fail = broken
    tasks = tell(appender, [1], [2])
    await settle()
    tasks += tell(appender, [3], [4])
    await settle()
    bus.gate.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, Unavailable)
    assert bus.messages == []


async def test_those_behind_a_bus_that_is_away_are_told_with_the_first(
    bus: FakeBus, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise Unavailable("away")

    monkeypatch.setattr(module, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(module, "MAX_JOINED_BYTES", 1)
    bus.fail = away
    started = asyncio.get_running_loop().time()
    results = await asyncio.gather(*tell(appender, *([number] for number in range(20))), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert asyncio.get_running_loop().time() - started < 1, "not one patience after the other"


async def test_records_that_cannot_be_joined_fail_their_callers_and_nobody_waits_for_ever(
    bus: FakeBus, appender: Appender
) -> None:
    async with asyncio.timeout(1):
        with pytest.raises(Unavailable):
            await appender.append(["text"])  # type: ignore[list-item]
        assert await appender.append([b"2"]) == 1
    assert bus.messages == [[2]]


async def test_it_goes_on_after_a_failure(bus: FakeBus, appender: Appender) -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    bus.fail = broken
    with pytest.raises(Unavailable):
        await appender.append([b"1"])
    bus.fail = lambda: None
    assert await appender.append([b"2"]) == 1
    assert bus.messages == [[2]]


async def test_a_repeated_try_has_the_same_message_id(bus: FakeBus, appender: Appender) -> None:
    tries = iter([Unavailable("lost"), Unavailable("lost")])

    def twice() -> None:
        if error := next(tries, None):
            raise error

    bus.fail = twice
    await appender.append([b"1"])
    await appender.append([b"2"])
    assert len(bus.message_ids) == 4
    assert len(set(bus.message_ids[:3])) == 1
    assert bus.message_ids[3] != bus.message_ids[0]


async def test_a_caller_who_leaves_does_not_take_the_others_along(bus: FakeBus, appender: Appender) -> None:
    bus.gate.clear()
    leaves, stays = tell(appender, [1], [2])
    await settle()
    leaves.cancel()
    await settle()
    bus.gate.set()
    assert await stays
    assert bus.messages in ([[1, 2]], [[1], [2]]), "what was accepted is stored even so"


async def test_a_group_too_large_is_refused_at_once(bus: FakeBus, appender: Appender) -> None:
    with pytest.raises(TooLarge):
        await appender.append([b"1" * module.MAX_CALL_BYTES])
    assert bus.message_ids == []


async def test_more_than_may_wait_is_refused_and_leaves_no_trace(
    bus: FakeBus, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 100)
    bus.gate.clear()
    first = tell(appender, [1])
    await settle()
    waiting = tell(appender, [int("2" * 60)])
    await settle()
    with pytest.raises(Unavailable, match="Too many"):
        await appender.append([b"3" * 60])
    bus.gate.set()
    await asyncio.gather(*first, *waiting)
    assert await appender.append([b"3" * 60])


async def test_a_bus_that_is_away_is_told_before_anything_waits(bus: FakeBus, appender: Appender) -> None:
    bus.is_away = True
    with pytest.raises(Unavailable):
        await appender.append([b"1"])
    assert bus.message_ids == []
