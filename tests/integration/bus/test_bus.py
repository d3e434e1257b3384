"""The bus on a real NATS server: what an in-memory broker cannot show."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import ids
from shared.appender import Appender
from shared.bus import Batch, Bus, StreamSpec, connection, consume, ensure_stream
from shared.bus import router as routing
from shared.bus.jetstream import consumer
from shared.contracts.access.authentication import AccessChanged
from shared.contracts.generation.projects import ProjectChanged
from shared.errors import Conflict, Internal, TooLarge, Unavailable
from tests.integration.bus.bus_probe import Calls, Count, Echo, Fail, Number, Text, router
from tests.integration.servers import ROOT, Nats, Process, connected, running, settings, until_ready
from tests.principals import member

QUICK: dict[str, Any] = {"bus_heartbeat_seconds": 0.1, "bus_silence_seconds": 0.6}


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    server = Nats(tmp_path_factory.mktemp("bus"))
    with running(server):
        yield server


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Bus]:
    async with connected(nats) as bus:
        yield bus


@contextlib.asynccontextmanager
async def probe(nats: Nats, **fields: float) -> AsyncIterator[tuple[Bus, Calls]]:
    """The probe service in this process; `fields` of its settings."""
    calls = Calls()
    async with connected(nats, "probe", **fields) as service:
        router.attach(service, calls)
        await service.start_subscribers()
        await service.client.flush()
        yield service, calls


@pytest.fixture
async def calls(nats: Nats) -> AsyncIterator[Calls]:
    async with probe(nats) as (_, calls):
        yield calls


def process(nats: Nats, folder: Path) -> Process:
    """The probe service as a process of its own."""
    return Process(
        [sys.executable, "-P", "-m", "tests.integration.bus.bus_probe"],
        folder / "probe.log",
        {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "EVERLOOP_NATS_URL": nats.url},
    )


async def collect(bus: Bus, command: Count) -> list[object]:
    async with contextlib.aclosing(bus.stream_request(command, Number)) as answers:
        return [answer async for answer in answers]


# --- asking -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("calls")
async def test_a_question_is_answered(bus: Bus) -> None:
    assert await bus.request(Echo(text="hello")) == Text(text="hello")


@pytest.mark.usefixtures("calls")
async def test_a_problem_crosses_the_bus_whole(bus: Bus) -> None:
    with pytest.raises(Conflict) as caught:
        await bus.request(Fail(how="conflict"))
    assert (caught.value.message, caught.value.origin, caught.value.retry_after_seconds) == (
        "The name is taken.",
        "Probe",
        7,
    )


@pytest.mark.usefixtures("calls")
async def test_a_defect_is_told_without_its_details(bus: Bus) -> None:
    with pytest.raises(Internal) as caught:
        await bus.request(Fail(how="defect"))
    assert "42" not in caught.value.message


@pytest.mark.usefixtures("calls")
async def test_a_problem_that_cannot_be_encoded_is_answered_as_a_defect(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider's text may have half of a surrogate pair."""
    with pytest.raises(Internal):
        await bus.request(Fail(how="surrogate"))
    assert "probe.fail: its problem cannot be sent" in caplog.text


@pytest.mark.usefixtures("calls")
async def test_an_answer_too_large_for_the_bus_is_told(bus: Bus) -> None:
    with pytest.raises(TooLarge):
        await bus.request(Echo(text="x", times=9_000_000))


@pytest.mark.usefixtures("calls")
async def test_a_question_too_large_for_the_bus_is_told(bus: Bus) -> None:
    with pytest.raises(TooLarge):
        await bus.request(Echo(text="x" * 9_000_000))
    with pytest.raises(TooLarge):
        await bus.append("logs.test", b"x" * 9_000_000, message_id="large")


async def test_a_service_that_is_down_is_known_at_once(bus: Bus) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await bus.request(Echo(text="anybody?"))
    with pytest.raises(Unavailable):
        await collect(bus, Count(to=1))
    assert time.monotonic() - started < 0.5


@pytest.mark.usefixtures("calls")
async def test_a_service_that_hangs_is_given_up_in_time(bus: Bus) -> None:
    with pytest.raises(Unavailable):
        await bus.request(Echo(text="slow", after_seconds=0.5), timeout_seconds=0.1)


async def test_no_more_than_its_workers_at_a_time_and_nobody_is_forgotten(bus: Bus, calls: Calls) -> None:
    started = time.monotonic()
    await asyncio.gather(*(bus.request(Echo(text=str(number), after_seconds=0.1)) for number in range(12)))
    assert 0.3 <= time.monotonic() - started < 1
    assert len(calls.echoed) == 12


async def test_a_request_waits_for_a_worker_as_long_as_its_caller_waits(bus: Bus, calls: Calls) -> None:
    """Four workers have work for 1.5 s. Four more requests wait for them; callers that wait less are refused sooner."""
    patient = [bus.request(Echo(text="patient", after_seconds=1.5), timeout_seconds=10) for _ in range(8)]
    tasks = [asyncio.create_task(request) for request in patient]
    await asyncio.sleep(0.1)
    hurried = await asyncio.gather(
        *(bus.request(Echo(text="hurried"), timeout_seconds=1.2) for _ in range(4)), return_exceptions=True
    )
    assert {str(answer) for answer in hurried} == {"The service has more to do than it can at the moment. Try again."}
    assert [answer.text for answer in await asyncio.gather(*tasks)] == ["patient"] * 8
    assert "hurried" not in calls.echoed, "work nobody waits for is not begun"


async def test_a_sender_that_does_not_say_how_long_it_waits_is_refused_after_the_usual_time(
    bus: Bus, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "REQUEST_TIMEOUT_SECONDS", 0.1)
    query = Echo(text="x", after_seconds=0.3).model_dump_json().encode()
    answers = await asyncio.gather(*(bus.client.request("probe.echo", query, timeout=3) for _ in range(8)))
    assert sum(b"more to do" in answer.data for answer in answers) == 4
    assert len(calls.echoed) == 4


async def test_replicas_share_the_questions(nats: Nats, bus: Bus) -> None:
    async with probe(nats) as (_, one), probe(nats) as (_, other):
        await asyncio.gather(*(bus.request(Echo(text="x")) for _ in range(100)))
        assert len(one.echoed) + len(other.echoed) == 100
        assert one.echoed
        assert other.echoed


# --- stopping ---------------------------------------------------------------------------------------------------


async def test_a_service_that_is_stopped_answers_what_it_has_in_hand(nats: Nats, bus: Bus) -> None:
    calls = Calls()
    service = await start(nats, calls)
    asked = [asyncio.create_task(bus.request(Echo(text=str(number), after_seconds=0.2))) for number in range(12)]
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(service.close())
    await asyncio.sleep(0.05)
    started = time.monotonic()
    with pytest.raises(Unavailable):  # it takes no more
        await bus.request(Echo(text="too late"))
    assert time.monotonic() - started < 0.1
    assert [answer.text for answer in await asyncio.gather(*asked)] == [str(number) for number in range(12)]
    await closing


async def test_what_is_not_finished_in_time_is_told(nats: Nats, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SHUTDOWN_SECONDS", 0.2)
    calls = Calls()
    service = await start(nats, calls)
    asked = asyncio.create_task(bus.request(Echo(text="long", after_seconds=4)))
    counted = asyncio.create_task(collect(bus, Count(to=100, every_seconds=0.05)))
    await asyncio.sleep(0.5)
    started = time.monotonic()
    await service.close()
    for task in (asked, counted):
        with pytest.raises(Unavailable, match="stopped before"):
            await task
    assert time.monotonic() - started < 1
    assert calls.cleaned


async def start(nats: Nats, calls: Calls) -> Bus:
    """A probe that the test closes itself."""
    service = Bus(settings(nats), "probe")
    await service.open()
    router.attach(service, calls)
    await service.start_subscribers()
    await service.client.flush()
    return service


async def test_sigterm_lets_a_process_answer_first(nats: Nats, bus: Bus, tmp_path: Path) -> None:
    child = process(nats, tmp_path)
    with running(child):
        await until_ready(bus, "probe")
        asked = asyncio.create_task(bus.request(Echo(text="slow", after_seconds=1)))
        counted = asyncio.create_task(collect(bus, Count(to=10, every_seconds=0.1)))
        await asyncio.sleep(0.2)
        stopped = asyncio.create_task(asyncio.to_thread(child.terminate))
        assert (await asked).text == "slow"
        assert (await counted)[-1] == Text(text="done")
        assert await stopped == 0


async def end(error: Exception | None = None) -> None:
    if error:
        raise error


@pytest.mark.parametrize("error", [None, ZeroDivisionError()], ids=["returns", "raises"])
async def test_background_work_that_ends_is_a_failure(nats: Nats, error: Exception | None) -> None:
    async with connected(nats) as bus:
        await asyncio.wait({bus.supervise(end(error), name="ends")})
        assert bus.failed.is_set()


async def test_background_work_that_is_cancelled_or_ends_with_its_process_is_none(nats: Nats) -> None:
    stop = asyncio.Event()

    async def until_told() -> None:
        await stop.wait()

    async def tell() -> None:
        stop.set()

    async with connected(nats) as bus:
        bus.supervise(asyncio.sleep(60), name="cancelled").cancel()
        told = bus.supervise(until_told(), name="told")
        bus.on_close(tell)
    await told
    assert not bus.failed.is_set()


# --- calling ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("calls")
async def test_a_call_gives_its_chunks_in_order_and_then_the_answer(bus: Bus) -> None:
    answers = await collect(bus, Count(to=500))
    assert answers == [*(Number(value=value) for value in range(500)), Text(text="done")]
    assert not bus._streamed.calls, "nothing is kept of a call that is over"


async def test_heartbeats_carry_a_call_over_a_long_silence(nats: Nats) -> None:
    async with probe(nats, bus_heartbeat_seconds=0.1), connected(nats, **QUICK) as bus:
        answers = await collect(bus, Count(to=1, every_seconds=1.5))
    assert answers[-1] == Text(text="done")


async def test_a_call_without_heartbeats_is_given_up(nats: Nats) -> None:
    """With the same settings at the caller: it is the heartbeats that carry it."""
    async with probe(nats, bus_heartbeat_seconds=5), connected(nats, **QUICK) as bus:
        with pytest.raises(Unavailable, match="stopped answering"):
            await collect(bus, Count(to=1, every_seconds=1.5))


@pytest.mark.usefixtures("calls")
async def test_a_call_that_fails_midway_is_told_after_its_chunks(bus: Bus) -> None:
    received = []
    with pytest.raises(Conflict, match="No further"):  # noqa: PT012 - what came before the failure counts
        async for answer in bus.stream_request(Count(to=5, fail_at=2), Number):
            received.append(answer)  # noqa: PERF401 - the loop raises
    assert received == [Number(value=0), Number(value=1)]


@pytest.mark.usefixtures("calls")
async def test_a_handler_that_forgets_its_answer_does_not_leave_its_caller_waiting(bus: Bus) -> None:
    with pytest.raises(Internal):
        await collect(bus, Count(to=1, omit_answer=True))


async def test_a_caller_who_leaves_ends_the_work(bus: Bus, calls: Calls) -> None:
    async with contextlib.aclosing(bus.stream_request(Count(to=1000, every_seconds=0.02), Number)) as answers:
        async for answer in answers:
            if answer == Number(value=3):
                break
    async with asyncio.timeout(1):
        await calls.ended.wait()
    assert calls.cleaned, "what the generator does at its end was not cut short"
    assert len(calls.counted) < 10
    assert not bus._streamed.calls


async def test_a_caller_who_leaves_at_once_starts_no_work(bus: Bus, calls: Calls) -> None:
    for _ in range(20):
        call = bus.stream_request(Count(to=1000, every_seconds=0.5), Number)
        waiting = asyncio.ensure_future(anext(call))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await call.aclose()
    await asyncio.sleep(0.3)
    counted = len(calls.counted)
    await asyncio.sleep(0.6)
    assert len(calls.counted) == counted, "nothing goes on"
    assert not bus._streamed.calls


async def test_a_service_killed_midway_is_noticed(nats: Nats, tmp_path: Path) -> None:
    child = process(nats, tmp_path)
    child.start()
    async with connected(nats, **QUICK) as bus:
        await until_ready(bus, "probe")
        received = 0
        started = 0.0
        with pytest.raises(Unavailable, match="stopped answering"):  # noqa: PT012 - it is killed midway
            async for _ in bus.stream_request(Count(to=1000, every_seconds=0.05), Number):
                received += 1
                if received == 3:
                    child.kill()
                    started = time.monotonic()
        assert received >= 3
        assert time.monotonic() - started < 1.5
        assert not bus._streamed.calls


# --- streams ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def stream(bus: Bus) -> str:
    """A stream of this test alone: its name, and the first token of its subjects."""
    name = ids.mint("S").replace("_", "")
    await ensure_stream(bus, StreamSpec(name=name, subjects=(f"{name}.>",)))
    return name


async def test_what_is_appended_twice_under_one_id_is_there_once(bus: Bus, stream: str) -> None:
    first = await bus.append(f"{stream}.a", b"1", message_id="one")
    again = await bus.append(f"{stream}.a", b"1", message_id="one")
    other = await bus.append(f"{stream}.a", b"2", message_id="two")
    assert (first, again, other) == (1, 1, 2)


async def test_appending_where_no_stream_listens_is_unavailable(bus: Bus) -> None:
    with pytest.raises(Unavailable):
        await bus.append("nobody.listens", b"1", message_id="one")


async def test_a_full_stream_refuses(bus: Bus) -> None:
    name = ids.mint("S").replace("_", "")
    await ensure_stream(bus, StreamSpec(name=name, subjects=(f"{name}.>",), max_bytes=1000))
    await bus.append(f"{name}.a", b"x" * 500, message_id="one")
    with pytest.raises(Unavailable, match="refused"):
        await bus.append(f"{name}.a", b"x" * 800, message_id="two")


async def test_a_stream_remembers_ids_as_long_as_it_is_told_and_no_longer_than_it_keeps_messages(bus: Bus) -> None:
    name = ids.mint("S").replace("_", "")
    subjects = (f"{name}.>",)
    for spec, seconds in (
        (StreamSpec(name, subjects), 120),
        (StreamSpec(name, subjects, duplicate_window_seconds=86_400), 86_400),
        (StreamSpec(name, subjects, duplicate_window_seconds=86_400, max_age_days=0.5), 43_200),
    ):
        await ensure_stream(bus, spec)
        assert (await bus.client.jetstream().stream_info(name)).config.duplicate_window == seconds


async def test_an_event_is_announced_once(bus: Bus) -> None:
    await ensure_stream(bus, StreamSpec(name="EVENTS", subjects=("events.>",)))
    event = AccessChanged(organisation=ids.mint("tm"), what="role changed")
    for _ in range(2):
        await bus.publish_event(event, message_id="caused by the same")
    info = await bus.client.jetstream().stream_info("EVENTS")
    assert info.state.messages == 1


async def test_an_event_that_cannot_be_read_is_heard_as_any_change(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[ProjectChanged | None] = []
    await bus.subscribe(ProjectChanged, heard.append)
    subject = "events.tm_1.project.changed"
    change = ProjectChanged(organisation="tm_1", project_id="pr_1", what="renamed")
    newer = b'{"organisation": "tm_1", "what": "moved to the moon", "project_id": "pr_1"}'
    for payload in (newer, b"\xff", newer, change.model_dump_json().encode()):
        await bus.client.publish(subject, payload)
    await until(lambda: len(heard) == 4)
    assert heard == [None, None, None, change]
    (warning,) = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert subject in warning
    assert "what" in warning


async def until(condition: object, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


class Reader:
    """Collects what it is given."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.batches: list[int] = []
        self.failures = 0
        self.pause_seconds = 0.0

    async def __call__(self, batch: Batch) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("The database is away.")
        await asyncio.sleep(self.pause_seconds)
        self.batches.append(len(batch.messages))
        self.got.extend(int(message.data) for message in batch.messages)


async def append(bus: Bus, stream: str, numbers: range) -> None:
    for number in numbers:
        await bus.append(f"{stream}.n", str(number).encode(), message_id=str(number))


async def test_a_stream_is_read_in_order_and_in_batches(nats: Nats, bus: Bus, stream: str) -> None:
    await append(bus, stream, range(300))
    reader = Reader()
    async with connected(nats, "logging") as service:
        await consume(service, stream, "reader", reader, max_messages=100)
        await until(lambda: len(reader.got) == 300)
        started = time.monotonic()
        await append(bus, stream, range(300, 310))
        await until(lambda: len(reader.got) == 310)
        assert time.monotonic() - started < 1, "what comes later is read at once"
    assert reader.got == list(range(310))
    assert reader.batches[:3] == [100, 100, 100]


async def test_a_batch_is_given_again_until_it_succeeds(nats: Nats, bus: Bus, stream: str) -> None:
    await append(bus, stream, range(50))
    reader = Reader()
    reader.failures = 3
    async with connected(nats, "logging") as service:
        await consume(service, stream, "reader", reader)
        await until(lambda: len(reader.got) == 50)
        await asyncio.sleep(0.2)
        info = await service.client.jetstream().consumer_info(stream, "reader")
        assert (info.num_ack_pending, info.num_pending) == (0, 0)
    assert reader.got == list(range(50))


async def test_while_a_batch_waits_nothing_is_sent_again_and_nothing_piles_up(
    nats: Nats, bus: Bus, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "ACK_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(consumer, "_PROGRESS_SECONDS", 0.1)
    await append(bus, stream, range(100))
    reader = Reader()
    reader.pause_seconds = 1.5
    async with connected(nats, "logging") as service:
        await consume(service, stream, "reader", reader, max_messages=10)
        await asyncio.sleep(1.2)
        info = await service.client.jetstream().consumer_info(stream, "reader")
        assert info.num_ack_pending == 10
        assert info.num_redelivered == 0
        reader.pause_seconds = 0
        await until(lambda: len(reader.got) == 100)
    assert reader.got == list(range(100))


async def test_what_a_stopped_reader_held_is_given_back(
    nats: Nats, bus: Bus, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not after the time in which it might have gone on with it."""
    monkeypatch.setattr(consumer, "ACK_WAIT_SECONDS", 60.0)
    monkeypatch.setattr(consumer, "SHUTDOWN_SECONDS", 0.1)
    begun, another = asyncio.Event(), Reader()

    async def stuck(_: Batch) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with connected(nats, "logging") as first:
        await consume(first, stream, "reader", stuck)
        await append(bus, stream, range(3))
        await begun.wait()
    async with connected(nats, "logging") as second:
        await consume(second, stream, "reader", another)
        await until(lambda: sorted(another.got) == [0, 1, 2], 30)


async def test_what_a_killed_reader_held_goes_to_another(
    nats: Nats, bus: Bus, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "ACK_WAIT_SECONDS", 0.5)
    await append(bus, stream, range(20))
    stuck = Reader()
    stuck.pause_seconds = 60
    async with connected(nats, "logging") as dies:
        task = await consume(dies, stream, "reader", stuck)
        await asyncio.sleep(0.2)
        task.cancel()
    reader = Reader()
    async with connected(nats, "logging") as service:
        await consume(service, stream, "reader", reader)
        await until(lambda: sorted(reader.got) == list(range(20)))


async def test_replicas_share_a_stream(nats: Nats, bus: Bus, stream: str) -> None:
    one, other = Reader(), Reader()
    one.pause_seconds = other.pause_seconds = 0.01
    async with connected(nats, "logging") as first, connected(nats, "logging") as second:
        await consume(first, stream, "reader", one, max_messages=5)
        await consume(second, stream, "reader", other, max_messages=5)
        await append(bus, stream, range(200))
        await until(lambda: len(one.got) + len(other.got) == 200)
    assert sorted(one.got + other.got) == list(range(200))
    assert one.got
    assert other.got


async def test_large_messages_come_in_batches_that_fit_into_memory(nats: Nats, bus: Bus, stream: str) -> None:
    for number in range(12):
        await bus.append(f"{stream}.n", str(number).encode() + b" " * 5_000_000, message_id=str(number))
    reader = Reader()
    async with connected(nats, "logging") as service:
        await consume(service, stream, "reader", reader)
        await until(lambda: len(reader.got) == 12, 20)
    assert reader.got == list(range(12))
    assert max(reader.batches) <= 3


async def test_a_reader_that_is_stopped_finishes_its_batch(nats: Nats, bus: Bus, stream: str) -> None:
    await append(bus, stream, range(20))
    reader = Reader()
    reader.pause_seconds = 0.3
    async with connected(nats, "logging") as service:
        await consume(service, stream, "reader", reader, max_messages=10)
        await asyncio.sleep(0.1)
    assert reader.got == list(range(10))
    info = await bus.client.jetstream().consumer_info(stream, "reader")
    assert (info.num_ack_pending, info.num_pending) == (0, 10)


async def test_a_consumer_that_was_deleted_is_made_again(nats: Nats, bus: Bus, stream: str) -> None:
    reader = Reader()
    async with connected(nats, "logging") as service:
        await consume(service, stream, "reader", reader)
        await append(bus, stream, range(1))
        await until(lambda: reader.got == [0])
        await service.client.jetstream().delete_consumer(stream, "reader")
        await append(bus, stream, range(1, 2))
        await until(lambda: 1 in reader.got, 15)  # a request that crosses the deletion is never answered


async def test_a_pull_request_that_is_lost_is_made_again_within_seconds(
    nats: Nats, bus: Bus, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader()
    lost: list[str] = []
    async with connected(nats, "logging") as service:
        publish = service.client.publish

        async def lose_one(subject: str, payload: bytes = b"", **options: Any) -> None:
            if b"expires" in payload and not lost:
                lost.append(subject)
            else:
                await publish(subject, payload, **options)

        monkeypatch.setattr(service.client, "publish", lose_one)
        await consume(service, stream, "reader", reader)
        await until(lambda: bool(lost))
        await append(bus, stream, range(1))
        await until(lambda: reader.got == [0], 10)


# --- a server that goes away ------------------------------------------------------------------------------------


async def test_everything_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    server = Nats(tmp_path)
    with running(server):
        async with connected(server) as bus, probe(server) as (service, _), connected(server, "logging") as logging:
            await ensure_stream(bus, StreamSpec(name="LOGS", subjects=("logs.>",)))
            reader = Reader()

            async def read(batch: Batch) -> None:
                reader.got.extend(number for message in batch.messages for number in json.loads(message.data))

            await consume(logging, "LOGS", "reader", read)
            appender = Appender(bus, "logs.intake")
            hooks: list[float] = []
            bus.on_reconnect(lambda: hooks.append(time.monotonic()))
            accepted = [number for number in range(20) if await appender.append([str(number).encode()])]
            server.kill()
            await asyncio.sleep(0.3)
            started = time.monotonic()
            results = await asyncio.gather(
                bus.request(Echo(text="x")), collect(bus, Count(to=1)), appender.append([b"99"]), return_exceptions=True
            )
            assert all(isinstance(result, Unavailable) for result in results), results
            assert time.monotonic() - started < connection.RECONNECT_WAIT_SECONDS + 0.5
            assert not bus.is_connected
            server.start()
            await until(lambda: bus.is_connected and service.is_connected and logging.is_connected)
            await until(lambda: bool(hooks))
            assert (await bus.request(Echo(text="again"))).text == "again"
            accepted += [number for number in range(20, 40) if await appender.append([str(number).encode()])]
            await until(lambda: set(accepted) <= set(reader.got), 15)
            assert len(accepted) == 40


async def test_an_append_in_flight_when_the_server_dies_is_stored_once(tmp_path: Path) -> None:
    server = Nats(tmp_path)
    with running(server):
        async with connected(server) as bus:
            await ensure_stream(bus, StreamSpec(name="LOGS", subjects=("logs.>",)))
            appender = Appender(bus, "logs.intake")
            appends = []
            for number in range(1000):
                appends.append(asyncio.create_task(appender.append([b"%d" % number])))
                await asyncio.sleep(0.001)
                if number == 300:
                    server.kill()
                    server.start()
            results = await asyncio.gather(*appends, return_exceptions=True)
            await until(lambda: bus.is_connected)
            stored = await stored_numbers(bus)
    assert len(stored) == len(set(stored)), "a try repeated after the crash is the same message"
    confirmed = {number for number, result in enumerate(results) if isinstance(result, int)}
    assert confirmed <= set(stored)
    assert {0, 999} <= confirmed, "before and after"
    assert all(isinstance(result, int | Unavailable) for result in results)


async def stored_numbers(bus: Bus) -> list[int]:
    manager = bus.client.jetstream()
    last = (await manager.stream_info("LOGS")).state.last_seq
    numbers: list[int] = []
    for sequence in range(1, last + 1):
        message = await manager.get_msg("LOGS", sequence)
        numbers.extend(json.loads(message.data or b"[]"))
    return numbers


async def test_a_callback_that_fails_is_logged_and_called_again(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    received: list[AccessChanged | None] = []

    def fail(event: AccessChanged | None) -> None:
        received.append(event)
        raise ZeroDivisionError

    await ensure_stream(bus, StreamSpec(name="EVENTS", subjects=("events.>",)))
    await bus.subscribe(AccessChanged, fail)
    for number in range(2):
        event = AccessChanged(organisation="tm_callback", what="key created")
        await bus.publish_event(event, message_id=f"callback.{number}")
    await until(lambda: len(received) == 2)
    errors = [record for record in caplog.records if record.message == "a message was not handled"]
    assert [record.exc_info and record.exc_info[0] for record in errors] == [ZeroDivisionError, ZeroDivisionError]


async def test_a_reconnect_hook_that_fails_ends_the_process_and_not_the_connection(tmp_path: Path) -> None:
    server, reconnects = Nats(tmp_path), 0

    def fail() -> None:
        raise ZeroDivisionError

    def count() -> None:
        nonlocal reconnects
        reconnects += 1

    with running(server):
        async with connected(server) as bus:
            bus.on_reconnect(fail)
            bus.on_reconnect(count)
            for number in (1, 2):
                server.kill()
                await until(lambda: not bus.is_connected)
                server.start()
                await until(lambda number=number: reconnects == number)
            assert bus.is_connected
            assert bus.failed.is_set(), "what the hook should have dropped may be void: the process starts anew"


async def test_a_service_is_stopped_though_the_server_is_away(tmp_path: Path) -> None:
    server = Nats(tmp_path)
    with running(server):
        child = process(server, tmp_path)
        with running(child):
            async with connected(server) as bus:
                await until_ready(bus, "probe")
            server.kill()
            await asyncio.sleep(0.5)
            started = time.monotonic()
            assert await asyncio.to_thread(child.terminate) == 0
            assert time.monotonic() - started < 3


async def test_a_service_waits_for_the_server_when_it_starts(tmp_path: Path) -> None:
    server = Nats(tmp_path)
    child = process(server, tmp_path)
    with running(child):
        await asyncio.sleep(1.5)
        with running(server):
            async with connected(server) as bus:
                await until_ready(bus, "probe")


async def test_a_service_that_still_waits_for_the_server_can_be_stopped(tmp_path: Path) -> None:
    child = process(Nats(tmp_path), tmp_path)
    with running(child):
        await until(lambda: "Connection refused" in child.log.read_text(), 60)
        assert await asyncio.to_thread(child.terminate) == 0


# --- the limit of a message, and a connection that is closed for good ----------------------------------------------


def _count_of_bytes(size: int) -> Count:
    """Return a command whose JSON is so long, by the email address of its principal."""
    empty = Count(to=1, principal=member("tm_1").model_copy(update={"email": ""}))
    email = "x" * (size - len(empty.model_dump_json()))
    return Count(to=1, principal=member("tm_1").model_copy(update={"email": email}))


@pytest.mark.usefixtures("calls")
async def test_a_message_that_only_its_headers_make_too_large_is_refused_and_the_connection_lives(bus: Bus) -> None:
    """The server counts headers, nats-py does not; the server closes the connection of whoever sends too much."""
    limit = bus.client.max_payload
    query = Echo(text="")
    text = "x" * (limit - len(query.model_dump_json()))
    with pytest.raises(TooLarge):
        await bus.request(Echo(text=text))
    with pytest.raises(TooLarge):
        await collect(bus, _count_of_bytes(limit))
    with pytest.raises(TooLarge):
        await bus.append("logs.test", b"x" * limit, message_id="exactly the limit")
    assert bus.client.is_connected
    assert (await bus.request(Echo(text="still here"))).text == "still here"


async def test_a_process_whose_connection_the_server_closes_for_good_has_failed(nats: Nats) -> None:
    async with connected(nats) as bus:
        await bus.client.publish("probe.anything", b"x" * bus.client.max_payload, headers={"A": "b"})
        async with asyncio.timeout(5):
            await bus.failed.wait()
        assert not bus.is_connected
