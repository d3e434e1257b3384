"""Streamed replies on a real NATS server: slow callers, lost messages, processes of earlier versions."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from nats.aio.msg import Msg

from shared.bus import Bus, streamed_replies
from shared.bus.streamed_replies import StreamedCall
from shared.bus.wire import (
    CONSUMED_HEADER,
    KIND_END,
    KIND_HEADER,
    KIND_HEARTBEAT,
    KIND_REPLY,
    WINDOW_BYTES,
    part_cost,
)
from shared.errors import Unavailable
from tests.integration.bus.bus_probe import Calls, Count, Number, Text, router
from tests.integration.servers import Nats, connected, running

QUICK: dict[str, Any] = {"bus_heartbeat_seconds": 0.1, "bus_silence_seconds": 2.0}
IN_WINDOW = WINDOW_BYTES // part_cost(Number(value=1000).model_dump_json().encode()) + 2
"""How many numbers are sent before the first is consumed, at most."""


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    server = Nats(tmp_path_factory.mktemp("streams"))
    with running(server):
        yield server


@contextlib.asynccontextmanager
async def probe(nats: Nats, **fields: float) -> AsyncIterator[Calls]:
    calls = Calls()
    async with connected(nats, "probe", **QUICK | fields) as service:
        router.attach(service, calls)
        await service.start_subscribers()
        await service.client.flush()  # nats-py sends the first ping before what is pending
        yield calls


@pytest.fixture
async def calls(nats: Nats) -> AsyncIterator[Calls]:
    async with probe(nats) as calls:
        yield calls


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Bus]:
    async with connected(nats, **QUICK) as bus:
        yield bus


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def until_still(counted: list[int]) -> int:
    """Wait until nothing is counted any more; return how much was."""
    before = -1
    while len(counted) != before:
        before = len(counted)
        await asyncio.sleep(0.3)
    return before


# --- callers that read slowly -----------------------------------------------------------------------------------


async def test_a_handler_waits_while_its_caller_does_not_read_and_loses_nothing(bus: Bus, calls: Calls) -> None:
    async with contextlib.aclosing(bus.stream_request(Count(to=3000), Number)) as answers:
        assert await anext(answers) == Number(value=0)
        assert 0 < await until_still(calls.counted) <= IN_WINDOW
        (call,) = bus._streamed.calls.values()
        assert call._messages.qsize() <= IN_WINDOW, "heartbeats do not pile up either"
        rest = [answer async for answer in answers]
    assert rest == [*(Number(value=value) for value in range(1, 3000)), Text(text="done")]


async def test_large_parts_count_by_their_bytes(bus: Bus, calls: Calls) -> None:
    async with contextlib.aclosing(bus.stream_request(Count(to=100, padding=WINDOW_BYTES), Number)) as answers:
        await anext(answers)
        assert await until_still(calls.counted) <= 3
        assert len([answer async for answer in answers]) == 100


async def test_a_caller_who_leaves_a_waiting_handler_ends_it(bus: Bus, calls: Calls) -> None:
    async with contextlib.aclosing(bus.stream_request(Count(to=100_000), Number)) as answers:
        await anext(answers)
        await until_still(calls.counted)
    async with asyncio.timeout(5):
        await calls.ended.wait()
    assert calls.cleaned


async def test_a_handler_ends_when_its_caller_is_gone_without_a_word(nats: Nats, calls: Calls) -> None:
    async with (
        connected(nats, **QUICK) as caller,
        contextlib.aclosing(caller.stream_request(Count(to=100_000), Number)) as answers,
    ):
        await anext(answers)
        caller._streamed.calls.clear()  # as in a process that was killed, nothing answers heartbeats
        async with asyncio.timeout(10):
            await calls.ended.wait()
    assert len(calls.counted) <= IN_WINDOW


async def test_a_handler_waits_for_a_live_caller_longer_than_for_a_silent_one(bus: Bus, calls: Calls) -> None:
    async with contextlib.aclosing(bus.stream_request(Count(to=500), Number)) as answers:
        await anext(answers)
        await asyncio.sleep(2 * QUICK["bus_silence_seconds"])
        assert not calls.ended.is_set()
        assert len([answer async for answer in answers]) == 500


async def test_a_short_stream_needs_no_message_of_its_caller(bus: Bus, calls: Calls, nats: Nats) -> None:
    async with connected(nats, "listener") as listener:
        told: list[Msg] = []

        async def on_message(message: Msg) -> None:
            told.append(message)

        await listener.client.subscribe("probe.cancel", cb=on_message)
        for _ in range(2):  # nats-py sends the first ping before what is pending
            await listener.client.flush()
        for _ in range(10):
            assert [answer async for answer in bus.stream_request(Count(to=20), Number)]
        await listener.client.flush()
        assert told == []
        assert len([answer async for answer in bus.stream_request(Count(to=1000), Number)]) == 1001
        await listener.client.flush()
        assert 0 < len(told) <= 1000 / (IN_WINDOW / 2 - 3)
    assert calls.counted


# --- lost messages ----------------------------------------------------------------------------------------------


async def test_what_was_told_is_told_again_if_it_is_lost(
    bus: Bus, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second message of the caller is lost."""
    tell, told = StreamedCall._tell, list[bool]()

    async def lossy(call: StreamedCall, headers: dict[str, str] | None) -> None:
        told.append(headers is not None)
        if len(told) % 2 == 0:
            await tell(call, headers)

    monkeypatch.setattr(StreamedCall, "_tell", lossy)
    assert len([answer async for answer in bus.stream_request(Count(to=400), Number)]) == 401
    assert len(told) > 4
    assert calls.cleaned


@contextlib.asynccontextmanager
async def scripted(nats: Nats, *replies: tuple[str, bytes, str | None]) -> AsyncIterator[list[Msg]]:
    """A handler that sends `replies`: what follows the reply subject, payload, kind. Yields what it is told."""
    async with connected(nats, "probe") as service:
        told: list[Msg] = []

        async def answer(message: Msg) -> None:
            for number, (suffix, payload, kind) in enumerate(replies):
                headers = {KIND_HEADER: kind} if kind else None
                await service.client.publish(f"{message.reply}{suffix}", payload, headers=headers)
                if number == 0:
                    await service.client.flush()
                    await asyncio.sleep(0.1)  # the caller has taken the first one

        async def on_told(message: Msg) -> None:
            told.append(message)

        await service.client.subscribe("probe.count", cb=answer)
        await service.client.subscribe("probe.cancel", cb=on_told)
        for _ in range(2):  # nats-py sends the first ping before what is pending
            await service.client.flush()
        yield told


ONE, TWO, DONE = b'{"value": 1}', b'{"value": 2}', b'{"text": "done"}'


@pytest.mark.parametrize(
    "replies",
    [
        [(".1", ONE, None), (".3", TWO, None)],
        [(".2", TWO, None)],
        [(".1", ONE, None), (".2", b"", KIND_HEARTBEAT)],
        [(".1", ONE, None), (".2", DONE, KIND_REPLY), (".3", b"", KIND_END)],
    ],
    ids=["in the middle", "the first", "told by a heartbeat", "told by the end"],
)
async def test_a_stream_that_lost_a_part_is_broken_off(
    nats: Nats, bus: Bus, replies: list[tuple[str, bytes, str | None]]
) -> None:
    async with scripted(nats, *replies) as told:
        received = []
        with pytest.raises(Unavailable, match="lost"):  # noqa: PT012 - what came before it counts
            async for answer in bus.stream_request(Count(to=9), Number):
                received.append(answer)  # noqa: PERF401 - the loop raises
        assert Number(value=2) not in received
        await until(lambda: told)
        assert CONSUMED_HEADER not in (told[0].headers or {}), "its handler is cancelled"
    assert not bus._streamed.calls


async def test_a_stream_is_whole_or_broken_off_when_the_server_restarts(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    nats = Nats(tmp_path_factory.mktemp("restarted"))
    with running(nats):
        async with (
            probe(nats, bus_silence_seconds=3) as calls,
            connected(nats, **QUICK | {"bus_silence_seconds": 3}) as bus,
        ):
            received = list[object]()
            try:
                async with asyncio.timeout(20):
                    async for answer in bus.stream_request(Count(to=3000), Number):
                        received.append(answer)
                        if len(received) in {500, 1500}:
                            await asyncio.to_thread(nats.kill)
                            await asyncio.to_thread(nats.start)
            except Unavailable:
                pass
            numbers = [answer for answer in received if isinstance(answer, Number)]
            assert numbers == [Number(value=value) for value in range(len(numbers))], "no hole"
            assert len(numbers) >= 500
            async with asyncio.timeout(10):
                await calls.ended.wait()


# --- earlier versions -------------------------------------------------------------------------------------------


async def test_a_caller_without_a_window_gets_everything_at_once(nats: Nats, calls: Calls) -> None:
    async with connected(nats) as caller:
        received: list[Msg] = []

        async def on_message(message: Msg) -> None:
            received.append(message)

        inbox = caller.client.new_inbox()
        await caller.client.subscribe(f"{inbox}.*", cb=on_message)
        await caller.client.flush()
        command = Count(to=2000).model_dump_json().encode()
        await caller.client.publish("probe.count", command, reply=f"{inbox}.call")
        await until(lambda: received and (received[-1].headers or {}).get(KIND_HEADER) == KIND_END)
    assert {message.subject for message in received} == {f"{inbox}.call"}
    assert len([message for message in received if not message.headers]) == 2000
    assert len(calls.counted) == 2000


async def test_a_handler_without_flow_control_is_read(nats: Nats, bus: Bus) -> None:
    parts = [("", ONE, None)] * 300
    async with scripted(nats, *parts, ("", DONE, KIND_REPLY), ("", b"", KIND_END)) as told:
        answers = [answer async for answer in bus.stream_request(Count(to=300), Number)]
        await bus.client.flush()
        assert told == [], "it would take anything on `cancel` for the end of the call"
    assert answers == [*[Number(value=1)] * 300, Text(text="done")]


async def test_a_handler_without_flow_control_is_cancelled_when_it_is_not_read(
    nats: Nats, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_replies, "MAX_UNREAD_BYTES", 200_000)
    parts = [("", ONE, None)] * 5000
    async with scripted(nats, *parts) as told:
        answers = bus.stream_request(Count(to=5000), Number)
        assert await anext(answers) == Number(value=1)
        await until(lambda: told)
        (call,) = bus._streamed.calls.values()
        assert call._messages.qsize() == 1, "nothing is held any more"
        with pytest.raises(Unavailable, match="not read"):
            async for _ in answers:
                pass
    assert not bus._streamed.calls
