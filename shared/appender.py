"""Appends records to a stream with group commit: what arrives while an append is in flight goes into the next one.

So concurrent callers share one sync. One append at a time keeps the order of the stream the order of acceptance. A
caller waits until its own records are durable; the records of one call are in one message, so all of them are stored or
none.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from shared import ids
from shared.bus import Bus
from shared.errors import Problem, TooLarge, Unavailable

logger = logging.getLogger(__name__)

MAX_JOINED_BYTES = 1024 * 1024
"""The records of several calls are joined into one message up to this size; more of one call go alone."""
MAX_CALL_BYTES = 7 * 1024 * 1024
"""Of the records of one call. Under the server's `max_payload` of 8 MB (deploy/nats.conf), with room for headers."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""More than this waiting for the server means it is away or far behind: refuse rather than run out of memory."""
APPEND_SECONDS = 5.0
"""How long one append may take with all its attempts before its callers are told 503."""


class _Call(NamedTuple):
    records: list[bytes]
    size: int
    durable: "asyncio.Future[int]"


class Appender:
    """Appends JSON records to one subject; each message is a JSON array of them."""

    def __init__(self, bus: Bus, subject: str) -> None:
        self._bus = bus
        self._subject = subject
        self._waiting: deque[_Call] = deque()
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None

    async def append(self, records: list[bytes]) -> int:
        """Append JSON records; return the stream sequence of their message once it is durable.

        Raises Unavailable if they may not be stored, TooLarge over `MAX_CALL_BYTES`.
        """
        size = sum(map(len, records)) + len(records) + 1
        if size > MAX_CALL_BYTES:
            raise TooLarge(f"These logs take {size:,} bytes together; at most {MAX_CALL_BYTES:,} fit into one request.")
        await self._bus.connected_client()
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise Unavailable("Too many logs are waiting to be stored; nothing of this request was. Try again.")
        durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(records, size, durable))
        self._waiting_bytes += size
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name=f"append {self._subject}")
        return await asyncio.shield(durable)

    async def _write(self) -> None:
        while self._waiting:
            calls = self._take()
            try:
                payload = b"[" + b",".join(record for call in calls for record in call.records) + b"]"
                sequence = await self._bus.append(
                    self._subject, payload, message_id=ids.mint("app"), timeout_seconds=APPEND_SECONDS
                )
            except Exception as error:  # noqa: BLE001 - raised in every waiting caller
                problem = error if isinstance(error, Problem) else Unavailable(f"Not stored: {error}")
                _fail(calls, problem)
                if isinstance(problem, Unavailable):  # those behind would wait as long, one batch after the other
                    _fail(self._waiting, Unavailable("Nothing of this request was stored. Try again."))
                    self._waiting.clear()
                    self._waiting_bytes = 0
            else:
                for call in calls:
                    if not call.durable.done():
                        call.durable.set_result(sequence)

    def _take(self) -> list[_Call]:
        """Return the calls whose records go into the next message."""
        calls: list[_Call] = []
        size = 0
        while self._waiting and (not calls or size + self._waiting[0].size <= MAX_JOINED_BYTES):
            call = self._waiting.popleft()
            calls.append(call)
            size += call.size
        self._waiting_bytes -= size
        return calls


def _fail(calls: Iterable[_Call], problem: Problem) -> None:
    for call in calls:
        if not call.durable.done():
            call.durable.set_exception(problem)
            call.durable.exception()  # retrieved: asyncio would warn if the caller was cancelled
