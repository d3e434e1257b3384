"""Appends the logs of generations to the LOGS stream and publishes failures; a caller that is cancelled interrupts
neither."""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any

from shared.appender import Appender
from shared.bus import Bus
from shared.contracts.generation.generations import GenerationFailed
from shared.contracts.logs import LOGS_SUBJECT, LogRecord, ProjectDeleted
from shared.errors import Problem, TooLarge, Unavailable
from shared.fair_limiter import FairLimiter

logger = logging.getLogger(__name__)

_MAX_FAILURES = 8
"""Failed runs whose logs are made and appended at a time; the others wait, because a log takes several times the memory
of its answer, and hundreds of streams can be broken off in one moment. Organisations share them."""
_RETRY_SECONDS = 60.0
"""How long the logs of a run whose caller has left are tried again: nobody waits, and its worker is held meanwhile."""
_CALLER_WAITS_SECONDS = 5.0
"""How long those of a failed run are, whose caller waits for the reason."""
_RETRY_DELAY_SECONDS = 0.5

_MAX_ERROR_CHARACTERS = 10_000
"""Of the error on a log whose content could not be stored."""


class LogWriter:
    """Appends each log as a message of its own, so that samples with large images need not fit into one together."""

    def __init__(self, bus: Bus, retry_seconds: float = _RETRY_SECONDS) -> None:
        self._bus = bus
        self._appender = Appender(bus, LOGS_SUBJECT)
        self._retry_seconds = retry_seconds
        self._failures = FairLimiter(_MAX_FAILURES)
        self._tasks: set[asyncio.Task[None]] = set()

    def start_append(self, records: list[LogRecord]) -> "asyncio.Task[None]":
        """Return a task that ends when the logs are durable; await it shielded, so that it outlives its caller.

        The task raises Unavailable or TooLarge.
        """
        return self._start(self._append_all(records))

    async def write_failure(
        self, organisation: str, records: Awaitable[list[LogRecord]], event: GenerationFailed | None = None
    ) -> None:
        """Append the logs of a failed run, then publish `event`; without one its caller has left, and the logs may take
        longer. Problems on the way are logged, not raised: the caller gets the run's own.

        `records` is awaited in a task, which a caller that is cancelled does not interrupt, when it is its turn.
        """
        await asyncio.shield(self._start(self._write_failure(organisation, records, event)))

    async def append_deletion(self, project: ProjectDeleted) -> None:
        """Append a record that deletes all logs of a project, also those that may still come. Raises Unavailable."""
        await self._appender.append([project.model_dump_json(exclude_none=True).encode()])

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        """Log the error of a task: a caller that was cancelled never awaits it."""
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Problem):
            logger.warning("a generation was not recorded: %s", error.message)
        else:
            logger.error("a generation was not recorded", exc_info=error)

    async def _append_all(self, records: list[LogRecord]) -> None:
        appends = (self._append(record) for record in records)
        for result in await asyncio.gather(*appends, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _append(self, record: LogRecord) -> None:
        """Append a record; without its content if that does not fit, because what the call cost must be on a log."""
        try:
            await self._appender.append([record.model_dump_json(exclude_none=True).encode()])
        except TooLarge as problem:
            await self._append_without_content(record, problem.message, "Its content was too large to be kept.")
        except ValueError as error:
            await self._append_without_content(record, str(error), "Its content could not be written down.")

    async def _append_without_content(self, record: LogRecord, reason: str, default_error: str) -> None:
        """`reason` goes to our log, `default_error` onto the record if it has no error of its own."""
        logger.warning("a log is kept without its content: %s", reason, extra={"log": record.id})
        error = (record.error or default_error)[:_MAX_ERROR_CHARACTERS]
        reduced = record.without_content().model_copy(update={"save": record.save, "error": error})
        await self._appender.append([reduced.model_dump_json(exclude_none=True).encode()])

    async def _write_failure(
        self, organisation: str, records: Awaitable[list[LogRecord]], event: GenerationFailed | None
    ) -> None:
        seconds = min(self._retry_seconds, _CALLER_WAITS_SECONDS) if event else self._retry_seconds
        try:
            async with self._failures.hold(organisation):
                await self._append_with_retries(await records, seconds)
            if event:
                await self._bus.publish_event(event, message_id=f"{event.log_ids[0]}.failed")
        except Problem as problem:
            logger.warning("a failed generation was not recorded: %s", problem)

    async def _append_with_retries(self, records: list[LogRecord], seconds: float) -> None:
        """Append, again if the stream does not take it, for so many seconds. A log that is appended twice is stored
        once. Raises as `_append_all` does."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                await self._append_all(records)
            except Unavailable:
                if asyncio.get_running_loop().time() + _RETRY_DELAY_SECONDS > deadline:
                    raise
            else:
                return
            await asyncio.sleep(_RETRY_DELAY_SECONDS)
