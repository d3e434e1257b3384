"""Jobs on a real NATS server: tried until they succeed or are dead, by as many workers as there may be."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from pydantic import ValidationError

from shared import ids
from shared.bus import JOBS, Bus
from shared.bus.jetstream import jobs
from shared.bus.jetstream.pull_consumer import PullConsumer
from shared.contracts.message import Job
from shared.errors import Internal, Invalid, RateLimited, TooLarge, Unavailable, UpstreamFailed
from tests.integration.bus.job_fixtures import (
    ORGANISATION,
    Worker,
    dead_letters,
    is_empty,
    job_class,
    job_of,
    make_streams,
    until,
    waiting,
    working,
)
from tests.integration.bus.job_worker import TRIES, Errand
from tests.integration.servers import Nats, connected, running


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    server = Nats(tmp_path_factory.mktemp("jobs"))
    with running(server):
        yield server


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Bus]:
    async with connected(nats, "probe") as bus:
        await make_streams(bus)
        yield bus


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ACK_WAIT_SECONDS", 0.6)
    monkeypatch.setattr(jobs, "FIRST_DELAY_SECONDS", 0.1)


class Log:
    """A handler that remembers when it was given which job, and fails as it is told to."""

    def __init__(self, *errors: BaseException, seconds: float = 0) -> None:
        self.errors = list(errors)
        self.seconds = seconds
        self.begun: list[tuple[str, float]] = []
        self.ended: list[str] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, job: Job, _: None) -> None:
        self.begun.append((job.id, time.monotonic()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.seconds)
            if self.errors:
                raise self.errors.pop(0)
            self.ended.append(job.id)
        finally:
            self.at_once -= 1

    @property
    def pauses(self) -> list[float]:
        times = [at for _, at in self.begun]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


# --- enqueueing ---------------------------------------------------------------------------------------------------


async def test_a_job_is_worked_on_once_and_then_gone(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log()
    job = job_of(kind)
    await bus.enqueue(job)
    stored = await bus.client.jetstream().get_msg(JOBS, 1)
    assert stored.headers == {"Nats-Msg-Id": job.id, "Everloop-Organisation": ORGANISATION}
    async with working(nats, kind, log):
        await until(lambda: is_empty(bus))
        info = await bus.client.jetstream().consumer_info(JOBS, kind.subject.removeprefix("jobs.").replace(".", "-"))
        assert info.config.filter_subject == kind.subject
    assert log.ended == [job.id]


async def test_a_trace_goes_with_the_job_into_its_handler_and_its_dead_letter(nats: Nats, bus: Bus) -> None:
    caused_by = SpanContext(0xC0FFEE, 0xCAFE, is_remote=False, trace_flags=TraceFlags(1))
    seen: list[int] = []

    async def fail(_: Job, __: None) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)
        raise Invalid("no")

    kind = job_class()
    with trace.use_span(NonRecordingSpan(caused_by)):
        await bus.enqueue(job_of(kind))
    async with working(nats, kind, fail):
        await until(lambda: is_empty(bus))
    assert seen == [caused_by.trace_id]
    (letter,) = await dead_letters(bus)
    assert f"{caused_by.trace_id:032x}" in (letter.headers or {})["traceparent"]


async def test_jobs_with_one_id_are_one_job(bus: Bus) -> None:
    kind = job_class()
    for _ in range(3):
        await bus.enqueue(job_of(kind, "job_derived"))
    await bus.enqueue(job_of(kind, "job_other"))
    assert await waiting(bus) == 2
    config = (await bus.client.jetstream().stream_info(JOBS)).config
    assert config.duplicate_window == jobs.JOBS_DUPLICATE_WINDOW_SECONDS


async def test_a_job_that_carries_too_much_is_refused(bus: Bus) -> None:
    with pytest.raises(TooLarge, match="1 MiB"):
        await bus.enqueue(job_of(job_class(), "x" * 1024 * 1024))
    assert await is_empty(bus)


async def test_enqueueing_without_the_stream_is_unavailable(bus: Bus) -> None:
    await bus.client.jetstream().delete_stream(JOBS)
    with pytest.raises(Unavailable):
        await bus.enqueue(job_of(job_class()))


async def test_a_worker_waits_for_the_stream(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log()
    await bus.client.jetstream().delete_stream(JOBS)
    async with working(nats, kind, log):
        await asyncio.sleep(0.3)
        await make_streams(bus)
        await bus.enqueue(job_of(kind))
        await until(lambda: log.ended)


# --- trying again -------------------------------------------------------------------------------------------------


def unreadable() -> ValidationError:
    """What a handler raises that cannot read an answer."""
    with pytest.raises(ValidationError) as caught:
        Errand.model_validate({})
    return caught.value


@pytest.mark.usefixtures("quick")
async def test_a_job_is_tried_again_after_growing_delays_until_it_succeeds(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log(Internal("a defect elsewhere"), unreadable(), asyncio.CancelledError())
    await bus.enqueue(job_of(kind))
    async with working(nats, kind, log):
        await until(lambda: is_empty(bus))
    assert len(log.ended) == 1
    for pause, wanted in zip(log.pauses, [0.1, 0.4, 1.6], strict=True):
        assert wanted <= pause < wanted + 1
    assert not await dead_letters(bus)


@pytest.mark.usefixtures("quick")
async def test_a_provider_that_names_a_time_is_not_asked_before(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log(RateLimited("slow down", retry_after_seconds=1.5))
    await bus.enqueue(job_of(kind))
    async with working(nats, kind, log):
        await until(lambda: is_empty(bus))
    assert 1.5 <= log.pauses[0] < 2


@pytest.mark.usefixtures("quick")
async def test_after_its_last_try_a_job_is_dead_with_its_reason(nats: Nats, bus: Bus) -> None:
    kind = job_class()
    log = Log(*(RateLimited("The provider is full.") for _ in range(9)))
    job = job_of(kind)
    await bus.enqueue(job)
    async with working(nats, kind, log, tries=3):
        await until(lambda: is_empty(bus))
    assert len(log.begun) == 3
    (letter,) = await dead_letters(bus)
    assert letter.subject == f"dead.{kind.subject}"
    assert json.loads(letter.data or b"") == job.model_dump(exclude_none=True)
    headers = letter.headers or {}
    assert headers["Everloop-First-At"] < headers["Everloop-Last-At"]
    assert {name: headers[f"Everloop-{name}"] for name in ("Subject", "Error", "Reason", "Tries", "Organisation")} == {
        "Subject": kind.subject,
        "Error": "RateLimited",
        "Reason": "The provider is full.",
        "Tries": "3",
        "Organisation": ORGANISATION,
    }


@pytest.mark.parametrize(
    ("error", "name", "reason"),
    [
        (Invalid("`how` cannot be done."), "Invalid", "`how` cannot be done."),
        (Invalid("the prompt 'my secret' is bad", origin="OpenAI"), "Invalid", "OpenAI: unprocessable_entity_error"),
        (ValueError("invalid literal: my secret"), "ValueError", "A defect; the log of the service has the details."),
    ],
    ids=["ours", "a provider's", "a defect"],
)
async def test_a_dead_letter_quotes_no_content(nats: Nats, bus: Bus, error: Exception, name: str, reason: str) -> None:
    kind, log = job_class(), Log(error)
    await bus.enqueue(job_of(kind))
    async with working(nats, kind, log, tries=1):
        await until(lambda: is_empty(bus))
    (letter,) = await dead_letters(bus)
    headers = letter.headers or {}
    assert (headers["Everloop-Error"], headers["Everloop-Reason"]) == (name, reason)


async def test_what_cannot_succeed_is_not_tried_again(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log(Invalid("`how` cannot be done."))
    await bus.enqueue(job_of(kind))
    async with working(nats, kind, log):
        await until(lambda: is_empty(bus))
    assert len(log.begun) == len(await dead_letters(bus)) == 1


async def test_a_job_that_cannot_be_read_is_dead_at_once_byte_for_byte(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log()
    for number, payload in enumerate((b"\xff\x00", b'{"id": "job_1"}')):
        await bus.append(kind.subject, payload, message_id=str(number), headers={"Everloop-Tried": "x"})
    async with working(nats, kind, log):
        await until(lambda: is_empty(bus))
    letters = await dead_letters(bus)
    assert {letter.data for letter in letters} == {b"\xff\x00", b'{"id": "job_1"}'}
    assert all("cannot be read" in (letter.headers or {})["Everloop-Reason"] for letter in letters)
    assert not log.begun


@pytest.mark.usefixtures("quick")
async def test_a_job_stays_in_the_queue_until_its_dead_letter_is_written(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log(Invalid("no"))
    await bus.client.jetstream().delete_stream("DEAD")
    await bus.enqueue(job_of(kind))
    async with working(nats, kind, log):
        await until(lambda: log.begun)
        await asyncio.sleep(1)
        assert await waiting(bus) == 1
        await bus.client.jetstream().add_stream(name="DEAD", subjects=["dead.>"])
        await until(lambda: is_empty(bus))
    assert len(await dead_letters(bus)) == len(log.begun) == 1


@pytest.mark.usefixtures("quick")
async def test_a_dead_letter_that_is_written_late_has_the_reason_of_the_last_try(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log(UpstreamFailed("The provider has failed."))
    await bus.client.jetstream().delete_stream("DEAD")
    await bus.enqueue(job_of(kind))
    async with working(nats, kind, log, tries=1):
        await until(lambda: log.begun)
        await asyncio.sleep(1)
        await bus.client.jetstream().add_stream(name="DEAD", subjects=["dead.>"])
        await until(lambda: is_empty(bus))
    (letter,) = await dead_letters(bus)
    headers = letter.headers or {}
    assert [headers[f"Everloop-{name}"] for name in ("Error", "Reason", "Tries")] == [
        "UpstreamFailed",
        "The provider has failed.",
        "1",
    ]


@pytest.mark.usefixtures("quick")
async def test_a_job_that_waits_for_its_dead_letter_at_a_stop_is_tried_elsewhere(
    nats: Nats, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SHUTDOWN_SECONDS", 0.2)
    kind, log = job_class(), Log(*(UpstreamFailed("The provider has failed.") for _ in range(2)))
    await bus.client.jetstream().delete_stream("DEAD")
    await bus.enqueue(job_of(kind))
    async with working(nats, kind, log, tries=1):
        await until(lambda: log.begun)
    assert await waiting(bus) == 1
    await bus.client.jetstream().add_stream(name="DEAD", subjects=["dead.>"])
    async with working(nats, kind, log, tries=1):
        await until(lambda: is_empty(bus))
    assert len(log.begun) == 2
    (letter,) = await dead_letters(bus)
    headers = letter.headers or {}
    assert (headers["Everloop-Error"], headers["Everloop-Tries"]) == ("UpstreamFailed", "1")


# --- how many at a time -------------------------------------------------------------------------------------------


async def test_no_more_than_its_workers_at_a_time_and_no_job_is_fetched_before(nats: Nats, bus: Bus) -> None:
    kind, one, other = job_class(), Log(seconds=1), Log(seconds=1)
    await asyncio.gather(*(bus.enqueue(job_of(kind)) for _ in range(12)))
    durable = kind.subject.removeprefix("jobs.").replace(".", "-")
    async with working(nats, kind, one, workers=3):
        await until(lambda: one.at_once == 3)
        assert (await bus.client.jetstream().consumer_info(JOBS, durable)).num_ack_pending == 3
        async with working(nats, kind, other, workers=3):
            await until(lambda: other.at_once == 3)
            assert (len(one.begun), one.ended) == (3, []), "what waits is there for the other replica at once"
            await until(lambda: is_empty(bus))
    assert (one.most_at_once, other.most_at_once) == (3, 3)
    assert len({*one.ended, *other.ended}) == len([*one.ended, *other.ended]) == 12


@pytest.mark.usefixtures("quick")
async def test_a_long_job_is_worked_on_once(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log(seconds=2.5)
    await bus.enqueue(job_of(kind))
    async with working(nats, kind, log), working(nats, kind, log):
        await until(lambda: is_empty(bus))
    assert len(log.begun) == len(log.ended) == 1


@pytest.mark.usefixtures("quick")
async def test_jobs_behind_a_long_one_run_once_after_a_reconnect(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log(seconds=0.9)
    durable = kind.subject.removeprefix("jobs.").replace(".", "-")
    wanted = [job_of(kind) for _ in range(8)]
    for job in wanted:
        await bus.enqueue(job)
    async with working(nats, kind, log, workers=1) as worker:
        back = asyncio.Event()
        worker.on_reconnect(back.set)
        await until(lambda: log.at_once == 1)
        await worker.client.force_reconnect()
        await back.wait()
        await until(lambda: len(log.begun) == 3)
        await asyncio.sleep(0.3)  # the server settles an acknowledgement after it was sent
        assert (await bus.client.jetstream().consumer_info(JOBS, durable)).num_ack_pending == 1
        await until(lambda: is_empty(bus), 20)
    assert [job_id for job_id, _ in log.begun] == [job.id for job in wanted]
    assert log.ended == [job.id for job in wanted]


@pytest.fixture
def inboxes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the server delivers what pull consumers have asked for, the first to ask first."""
    found: list[str] = []
    pull = PullConsumer._pull

    async def noted(consumer: PullConsumer, *arguments: Any) -> list[Msg]:
        found.append(consumer._inbox)
        return await pull(consumer, *arguments)

    monkeypatch.setattr(PullConsumer, "_pull", noted)
    return found


async def deliver_late(bus: Bus, durable: str, inbox: str) -> None:
    """Have a job delivered as by a pull request that is answered when the only worker, which has one, awaits none."""
    await bus.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{JOBS}.{durable}", b'{"batch": 1}', reply=f"{inbox}.late")

    async def both_are_delivered() -> bool:
        info = await bus.client.jetstream().consumer_info(JOBS, durable)
        return bool(info.num_ack_pending == 2)

    await until(both_are_delivered)


@pytest.mark.usefixtures("quick")
async def test_a_job_that_is_delivered_while_every_worker_is_busy_is_not_redelivered(
    nats: Nats, bus: Bus, inboxes: list[str]
) -> None:
    kind, log, other = job_class(), Log(seconds=2), Log()
    wanted = [job_of(kind) for _ in range(2)]
    for job in wanted:
        await bus.enqueue(job)
    async with working(nats, kind, log, workers=1):
        await until(lambda: log.at_once == 1)
        await deliver_late(bus, kind.subject.removeprefix("jobs.").replace(".", "-"), inboxes[0])
        async with working(nats, kind, other):
            await until(lambda: is_empty(bus))
    assert (log.ended, other.begun) == ([job.id for job in wanted], [])


async def test_a_job_that_is_delivered_while_every_worker_is_busy_is_run_before_another_is_fetched(
    nats: Nats, bus: Bus, inboxes: list[str]
) -> None:
    kind, log = job_class(), Log(seconds=0.8)
    durable = kind.subject.removeprefix("jobs.").replace(".", "-")
    for _ in range(3):
        await bus.enqueue(job_of(kind))
    async with working(nats, kind, log, workers=1):
        await until(lambda: log.at_once == 1)
        await deliver_late(bus, durable, inboxes[0])
        await until(lambda: len(log.begun) == 2)
        await asyncio.sleep(0.3)  # the server settles an acknowledgement after it was sent
        assert (await bus.client.jetstream().consumer_info(JOBS, durable)).num_ack_pending == 1
        await until(lambda: is_empty(bus))
    assert len(log.begun) == 3


# --- stopping -----------------------------------------------------------------------------------------------------


async def test_a_process_that_stops_finishes_its_jobs_and_takes_no_more(nats: Nats, bus: Bus) -> None:
    kind, log = job_class(), Log(seconds=0.5)
    for _ in range(5):
        await bus.enqueue(job_of(kind))
    async with working(nats, kind, log, workers=2):
        await until(lambda: log.at_once == 2)
    assert len(log.begun) == len(log.ended) == 2

    async def three_are_left() -> bool:
        return await waiting(bus) == 3

    await until(three_are_left)  # the server settles an acknowledgement after it was sent
    assert len(log.begun) == 2


async def test_a_job_that_is_given_back_at_a_stop_has_lost_no_try(
    nats: Nats, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SHUTDOWN_SECONDS", 0.2)
    kind, long, short = job_class(), Log(seconds=30), Log()
    job = job_of(kind)
    await bus.enqueue(job)
    for round_ in range(1, 4):
        async with working(nats, kind, long, tries=1):
            await until(lambda: len(long.begun) == round_)  # noqa: B023 - awaited in its round
        assert await waiting(bus) == 1
    started = time.monotonic()
    async with working(nats, kind, short, tries=1):
        await until(lambda: is_empty(bus))
    assert time.monotonic() - started < 2, "it need not wait until the server gives it up"
    assert short.ended == [job.id]
    assert not await dead_letters(bus)


# --- processes that die -------------------------------------------------------------------------------------------


async def test_a_job_whose_worker_is_killed_runs_again_and_ends_once(nats: Nats, bus: Bus, tmp_path: Path) -> None:
    first, second = Worker(nats, tmp_path, "first"), Worker(nats, tmp_path, "second")
    with running(first):
        await bus.enqueue(Errand(id="job_1", organisation=ORGANISATION, seconds=1))
        await until(lambda: first.noted("begin job_1"))
        first.kill()
        with running(second):
            await until(lambda: is_empty(bus))
            await asyncio.sleep(0.5)
    assert (first.noted("begin job_1"), first.noted("end job_1")) == (2, 1)
    assert not await dead_letters(bus)


async def test_a_job_that_kills_its_workers_is_dead_after_its_tries(nats: Nats, bus: Bus, tmp_path: Path) -> None:
    worker = Worker(nats, tmp_path)
    await bus.enqueue(Errand(id="job_1", organisation=ORGANISATION, how="kill"))
    for _ in range(TRIES):
        with running(worker):
            assert await asyncio.to_thread(worker.child.wait, 20) == -9
    with running(worker):
        await until(lambda: is_empty(bus))
    assert worker.noted("begin job_1") == TRIES
    (letter,) = await dead_letters(bus)
    headers = letter.headers or {}
    assert headers["Everloop-Error"] == "Exhausted"
    assert "killed" in headers["Everloop-Reason"]
    assert json.loads(letter.data or b"")["id"] == "job_1"


async def test_a_kill_between_dead_letter_and_acknowledgement_leaves_one_letter(
    nats: Nats, bus: Bus, tmp_path: Path
) -> None:
    dies = Worker(nats, tmp_path, "dies", JOB_WORKER_DIES_AFTER_DEAD_LETTER="1")
    await bus.enqueue(Errand(id="job_1", organisation=ORGANISATION, how="invalid"))
    with running(dies):
        assert await asyncio.to_thread(dies.child.wait, 20) == -9
    assert (await waiting(bus), len(await dead_letters(bus))) == (1, 1)
    with running(Worker(nats, tmp_path, "lives")):
        await until(lambda: is_empty(bus))
    assert dies.noted("begin job_1") == 2
    assert len(await dead_letters(bus)) == 1


async def test_sigterm_lets_a_worker_finish_its_job(nats: Nats, bus: Bus, tmp_path: Path) -> None:
    worker = Worker(nats, tmp_path)
    with running(worker):
        await bus.enqueue(Errand(id="job_1", organisation=ORGANISATION, seconds=1.5))
        await until(lambda: worker.noted("begin job_1"))
        assert await asyncio.to_thread(worker.terminate) == 0
    assert worker.noted("end job_1") == 1
    assert await is_empty(bus)


async def test_a_background_task_that_ends_before_its_time_ends_the_process(
    nats: Nats, bus: Bus, tmp_path: Path
) -> None:
    worker = Worker(nats, tmp_path, JOB_WORKER_ENDS="1")
    with running(worker):
        await bus.enqueue(Errand(id="job_1", organisation=ORGANISATION, seconds=1.5))
        assert await asyncio.to_thread(worker.child.wait, 20) == 1
    assert worker.noted("end job_1") == 1, "it stops in order"
    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["level"] == "CRITICAL"]
    assert "a task that ends" in line["message"]
    assert "ZeroDivisionError" in line["exception"]


@pytest.mark.usefixtures("quick")
async def test_everything_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    server = Nats(tmp_path)
    kind, log = job_class(), Log(seconds=0.2)
    with running(server):
        async with connected(server, "probe") as bus, working(server, kind, log):
            await make_streams(bus)
            wanted = {job.id: job for job in (job_of(kind) for _ in range(60))}
            for job in wanted.values():
                await bus.enqueue(job)
            await until(lambda: len(log.ended) > 5)
            server.kill()
            await asyncio.sleep(0.5)
            server.start()
            await until(lambda: bus.is_connected)
            late = job_of(kind, ids.mint("late"))
            await bus.enqueue(late)
            await until(lambda: is_empty(bus), 30)
            assert set(log.ended) == {*wanted, late.id}
            assert len(log.ended) <= len(wanted) + 1 + 2 * 4, "those in hand, and those done just before, may run twice"
            assert not await dead_letters(bus)
