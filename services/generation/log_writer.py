"""Where generations are written down: logs onto the stream, failures announced. Who leaves cuts nothing short."""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any

from shared.appender import Appender
from shared.bus import Bus
from shared.contracts.generations import GenerationFailed
from shared.contracts.logs import LOGS_SUBJECT, LogRecord, ProjectDeleted
from shared.errors import Problem, TooLarge

logger = logging.getLogger(__name__)

_LONGEST_ERROR = 10_000


class LogWriter:
    """Logs go one by one, so that samples with large images need not fit into one message together."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._appender = Appender(bus, LOGS_SUBJECT)
        self._writing: set[asyncio.Task[None]] = set()

    def begin(self, records: list[LogRecord]) -> "asyncio.Task[None]":
        """Done once they are durable; shield it: it goes on without its caller. Errors: Unavailable, TooLarge."""
        return self._start(self._append(records))

    async def write_failure(self, records: Awaitable[list[LogRecord]], failure: GenerationFailed | None = None) -> None:
        """Logs with errors, then the announcement. What fails here is not told: the caller gets the first error.

        `records` are awaited here, where a caller that leaves cannot interrupt it.
        """
        await asyncio.shield(self._start(self._reported(records, failure)))

    async def close(self, project: ProjectDeleted) -> None:
        """Have all logs of a project removed, and those that may still come. Errors: Unavailable."""
        await self._appender.append([project.model_dump_json(exclude_none=True).encode()])

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that left does not hear it: that is no warning

    async def _append(self, records: list[LogRecord]) -> None:
        appends = (self._keep(record) for record in records)
        for result in await asyncio.gather(*appends, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _keep(self, record: LogRecord) -> None:
        """A call that was made is kept even if what it said does not fit: what it cost is cost."""
        try:
            await self._appender.append([record.model_dump_json(exclude_none=True).encode()])
        except TooLarge as problem:
            await self._keep_reduced(record, problem.message, "Its content was too large to be kept.")
        except ValueError as error:
            await self._keep_reduced(record, str(error), "Its content could not be written down.")

    async def _keep_reduced(self, record: LogRecord, reason: str, told: str) -> None:
        logger.warning("a log is kept without its content: %s", reason, extra={"log": record.id})
        error = (record.error or told)[:_LONGEST_ERROR]
        reduced = record.without_content().model_copy(update={"save": record.save, "error": error})
        await self._appender.append([reduced.model_dump_json(exclude_none=True).encode()])

    async def _reported(self, records: Awaitable[list[LogRecord]], failure: GenerationFailed | None) -> None:
        try:
            await self._append(await records)
            if failure:
                await self._bus.publish_event(failure, message_id=f"{failure.log_ids[0]}.failed")
        except Problem as problem:
            logger.warning("a failed generation was not recorded: %s", problem)
