"""Group commit of the appender, on a fake bus."""

import asyncio
import json
from collections.abc import Callable

import pytest

from shared import appender as module
from shared.appender import Appender
from shared.errors import TooLarge, Unavailable


class FakeBus:
    """Keeps what is appended. Each append waits for `gate`, then calls `fail`, which may raise."""

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


def start_appends(appender: Appender, *groups: list[int]) -> list["asyncio.Task[int]"]:
    return [asyncio.create_task(appender.append([b"%d" % number for number in group])) for group in groups]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_single_record_is_appended_as_an_array_of_one(bus: FakeBus, appender: Appender) -> None:
    assert await appender.append([b"1"]) == 1
    assert bus.messages == [[1]]


async def test_records_that_arrive_during_an_append_share_the_next_one(bus: FakeBus, appender: Appender) -> None:
    bus.gate.clear()
    first = start_appends(appender, [0])
    await settle()
    others = start_appends(appender, *([number] for number in range(1, 100)))
    await settle()
    bus.gate.set()
    assert await asyncio.gather(*first) == [1]
    assert set(await asyncio.gather(*others)) == {2}
    assert bus.messages == [[0], list(range(1, 100))], "two appends for a hundred callers, in the order of acceptance"


async def test_no_caller_returns_before_its_append_is_acknowledged(bus: FakeBus, appender: Appender) -> None:
    bus.gate.clear()
    tasks = start_appends(appender, [1], [2])
    await settle()
    assert not any(task.done() for task in tasks)
    bus.gate.set()
    await asyncio.gather(*tasks)


async def test_records_of_one_call_are_in_one_message(
    bus: FakeBus, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_JOINED_BYTES", 20)
    bus.gate.clear()
    tasks = start_appends(
        appender, [1], [1001, 1002, 1003], [2001, 2002], [2003, 2004], [3000 + number for number in range(9)]
    )
    await settle()
    bus.gate.set()
    await asyncio.gather(*tasks)
    for group in ([1001, 1002, 1003], [2001, 2002], [2003, 2004], [3000 + number for number in range(9)]):
        assert any("," + ",".join(map(str, group)) in "," + ",".join(map(str, message)) for message in bus.messages)
    assert [number for message in bus.messages for number in message] == sorted(
        number for message in bus.messages for number in message
    )
    assert all(size <= 21 for size in bus.sizes[:-1]), "only a group that is larger by itself goes alone"


async def test_a_failed_append_raises_in_every_waiting_call(bus: FakeBus, appender: Appender) -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    bus.gate.clear()
    bus.fail = broken
    tasks = start_appends(appender, [1], [2])
    await settle()
    tasks += start_appends(appender, [3], [4])
    await settle()
    bus.gate.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, Unavailable)
    assert bus.messages == []


async def test_calls_waiting_behind_a_failed_append_fail_with_it(
    bus: FakeBus, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise Unavailable("away")

    monkeypatch.setattr(module, "MAX_JOINED_BYTES", 1)
    bus.fail = away
    started = asyncio.get_running_loop().time()
    results = await asyncio.gather(
        *start_appends(appender, *([number] for number in range(20))), return_exceptions=True
    )
    assert all(isinstance(result, Unavailable) for result in results)
    assert asyncio.get_running_loop().time() - started < 1, "callers do not wait for one retry period after the other"


async def test_records_that_cannot_be_joined_raise_in_their_callers(bus: FakeBus, appender: Appender) -> None:
    async with asyncio.timeout(1):
        with pytest.raises(Unavailable):
            await appender.append(["text"])  # type: ignore[list-item]
        assert await appender.append([b"2"]) == 1
    assert bus.messages == [[2]]


async def test_an_append_after_a_failed_one_succeeds(bus: FakeBus, appender: Appender) -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    bus.fail = broken
    with pytest.raises(Unavailable):
        await appender.append([b"1"])
    bus.fail = lambda: None
    assert await appender.append([b"2"]) == 1
    assert bus.messages == [[2]]


async def test_a_cancelled_caller_does_not_cancel_the_append_of_others(bus: FakeBus, appender: Appender) -> None:
    bus.gate.clear()
    leaves, stays = start_appends(appender, [1], [2])
    await settle()
    leaves.cancel()
    await settle()
    bus.gate.set()
    assert await stays
    assert bus.messages in ([[1, 2]], [[1], [2]]), "what was accepted is stored even so"


async def test_records_of_one_call_over_the_limit_are_refused_at_once(bus: FakeBus, appender: Appender) -> None:
    with pytest.raises(TooLarge):
        await appender.append([b"1" * module.MAX_CALL_BYTES])
    assert bus.message_ids == []


async def test_records_over_the_limit_of_waiting_bytes_are_refused_and_not_counted(
    bus: FakeBus, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 100)
    bus.gate.clear()
    first = start_appends(appender, [1])
    await settle()
    waiting = start_appends(appender, [int("2" * 60)])
    await settle()
    with pytest.raises(Unavailable, match="Too many"):
        await appender.append([b"3" * 60])
    bus.gate.set()
    await asyncio.gather(*first, *waiting)
    assert await appender.append([b"3" * 60])


async def test_a_call_fails_at_once_while_the_bus_is_away(bus: FakeBus, appender: Appender) -> None:
    bus.is_away = True
    with pytest.raises(Unavailable):
        await appender.append([b"1"])
    assert bus.message_ids == []
