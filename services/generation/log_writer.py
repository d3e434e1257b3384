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
from shared.errors import Problem, TooLarge

logger = logging.getLogger(__name__)

_MAX_ERROR_CHARACTERS = 10_000
"""Of the error on a log whose content could not be stored."""


class LogWriter:
    """Appends each log as a message of its own, so that samples with large images need not fit into one together."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._appender = Appender(bus, LOGS_SUBJECT)
        self._tasks: set[asyncio.Task[None]] = set()

    def start_append(self, records: list[LogRecord]) -> "asyncio.Task[None]":
        """Return a task that ends when the logs are durable; await it shielded, so that it outlives its caller.

        The task raises Unavailable or TooLarge.
        """
        return self._start(self._append_all(records))

    async def write_failure(self, records: Awaitable[list[LogRecord]], event: GenerationFailed | None = None) -> None:
        """Append the logs of a failed run, then publish `event`. Problems on the way are logged, not raised: the caller
        gets the run's own.

        `records` is awaited in a task, which a caller that is cancelled does not interrupt.
        """
        await asyncio.shield(self._start(self._write_failure(records, event)))

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

    async def _write_failure(self, records: Awaitable[list[LogRecord]], event: GenerationFailed | None) -> None:
        try:
            await self._append_all(await records)
            if event:
                await self._bus.publish_event(event, message_id=f"{event.log_ids[0]}.failed")
        except Problem as problem:
            logger.warning("a failed generation was not recorded: %s", problem)
