"""Logs of generations: each is appended by itself, reduced if it does not fit, and not interrupted by its caller."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.generation.log_writer import LogWriter
from shared.bus import Bus
from shared.contracts.generation.generations import GenerationFailed
from shared.contracts.logs import LogRecord, ProjectDeleted
from shared.errors import Unavailable


class RecordingBus:
    """Keeps what was appended and published."""

    def __init__(self, *, unavailable: bool = False) -> None:
        self.records: list[dict[str, Any]] = []
        self.events: list[tuple[Any, str]] = []
        self.published = asyncio.Event()
        self.unavailable = unavailable

    async def connected_client(self) -> None:
        """At once."""

    async def append(self, _: str, payload: bytes, **__: Any) -> int:
        if self.unavailable:
            raise Unavailable("no bus")
        self.records += json.loads(payload)
        return len(self.records)

    async def publish_event(self, event: Any, *, message_id: str) -> None:
        self.events.append((event, message_id))
        self.published.set()


def writer(bus: RecordingBus) -> LogWriter:
    return LogWriter(cast("Bus", bus), retry_seconds=0)


def record(log_id: str = "data_1", **fields: Any) -> LogRecord:
    now = datetime.now(UTC)
    required = {"id": log_id, "organisation": "tm_1", "project_id": "pr_1", "config_id": "config_1", "created_at": now}
    return LogRecord(**required | fields)


async def records(*given: LogRecord) -> list[LogRecord]:
    return list(given)


FAILED = GenerationFailed(
    organisation="tm_1", project_id="pr_1", log_ids=["data_1"], status=502, origin="OpenAI", kind="chat"
)


class TestAppending:
    async def test_every_log_is_appended(self) -> None:
        bus = RecordingBus()
        await writer(bus).start_append([record("data_1"), record("data_2")])
        assert {log["id"] for log in bus.records} == {"data_1", "data_2"}

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            ({"a": "half of a pair: \ud83d"}, "could not be written down"),
            ({"a": "x" * 8_000_000}, "too large"),
        ],
    )
    async def test_a_log_that_cannot_be_encoded_or_sent_is_appended_without_its_content(
        self, content: dict[str, str], error: str
    ) -> None:
        bus = RecordingBus()
        await writer(bus).start_append([record(prompt_tokens=1000, provider_response=content)])
        (log,) = bus.records
        assert (log["id"], log["prompt_tokens"], log["save"]) == ("data_1", 1000, True)
        assert "provider_response" not in log
        assert error in log["error"]

    async def test_a_reduced_log_keeps_its_own_error_up_to_a_length(self) -> None:
        bus = RecordingBus()
        await writer(bus).start_append([record(error="e" * 20_000, provider_response={"a": "x" * 8_000_000})])
        assert bus.records[0]["error"] == "e" * 10_000

    async def test_the_task_raises_when_the_stream_is_unavailable(self) -> None:
        with pytest.raises(Unavailable, match="no bus"):
            await writer(RecordingBus(unavailable=True)).start_append([record()])

    async def test_logs_that_could_not_be_appended_are_reported_although_the_caller_is_cancelled(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = writer(RecordingBus(unavailable=True)).start_append([record()])
        waiting = asyncio.ensure_future(asyncio.shield(task))
        waiting.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(0)
        assert "a generation was not recorded: no bus" in caplog.text

    async def test_a_deletion_is_appended_in_order_after_the_logs(self) -> None:
        bus = RecordingBus()
        log_writer = writer(bus)
        await log_writer.start_append([record()])
        await log_writer.append_deletion(ProjectDeleted(organisation="tm_1", project_id="pr_1", at=datetime.now(UTC)))
        assert [each["kind"] for each in bus.records] == ["log", "project_deleted"]


class TestFailures:
    async def test_logs_are_appended_and_the_failure_is_published_once_by_its_first_log(self) -> None:
        bus = RecordingBus()
        await writer(bus).write_failure("tm_1", records(record(error="broke")), FAILED)
        assert [log["error"] for log in bus.records] == ["broke"]
        assert bus.events == [(FAILED, "data_1.failed")]

    async def test_without_an_event_nothing_is_published(self) -> None:
        bus = RecordingBus()
        await writer(bus).write_failure("tm_1", records(record()))
        assert (len(bus.records), bus.events) == (1, [])

    async def test_a_failure_whose_logs_cannot_be_appended_is_neither_published_nor_raised(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bus = RecordingBus(unavailable=True)
        await writer(bus).write_failure("tm_1", records(record()), FAILED)
        assert bus.events == []
        assert "was not recorded: no bus" in caplog.text

    async def test_logs_are_made_and_appended_although_the_caller_is_cancelled(self) -> None:
        bus, may_be_made = RecordingBus(), asyncio.Event()

        async def slow_records() -> list[LogRecord]:
            await may_be_made.wait()
            return [record()]

        waiting = asyncio.create_task(writer(bus).write_failure("tm_1", slow_records(), FAILED))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        may_be_made.set()
        async with asyncio.timeout(2):
            await bus.published.wait()
        assert [log["id"] for log in bus.records] == ["data_1"]

    async def test_logs_of_a_caller_who_has_left_are_tried_again_until_the_stream_takes_them(self) -> None:
        bus = RecordingBus(unavailable=True)
        log_writer = LogWriter(cast("Bus", bus))
        writing = asyncio.create_task(log_writer.write_failure("tm_1", records(record())))
        await asyncio.sleep(0.01)
        bus.unavailable = False
        async with asyncio.timeout(5):
            await writing
        assert [log["id"] for log in bus.records] == ["data_1"]

    async def test_logs_of_many_runs_that_fail_at_once_are_made_a_few_at_a_time_and_all_are_appended(self) -> None:
        """Together they are more than may wait to be stored."""
        bus, made = RecordingBus(), 0
        log_writer = writer(bus)

        async def large_records(number: int) -> list[LogRecord]:
            nonlocal made
            made += 1
            assert made - len(bus.records) <= 8
            return [record(f"data_{number}", provider_response={"a": "x" * 2_000_000})]

        await asyncio.gather(*(log_writer.write_failure("tm_1", large_records(number)) for number in range(40)))
        assert len(bus.records) == 40
