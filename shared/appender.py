"""Group commit: what arrives while an append is in flight goes into the next one, so a sync is shared.

One append at a time keeps the order of the stream the order of acceptance. A caller waits until its own records are
durable; records given together stay together in one message, so they are stored all or not at all.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from shared import ids
from shared.bus import Bus
from shared.errors import Problem, TooLarge, Unavailable

logger = logging.getLogger(__name__)

MESSAGE_BYTES = 1024 * 1024
"""Groups are joined up to this size; a larger group goes alone."""
LARGEST_BYTES = 7 * 1024 * 1024
"""Under the server's `max_payload` of 8 MB (deploy/nats.conf), with room for headers."""
WAITING_BYTES = 64 * 1024 * 1024
"""More than this waiting for the server means it is away or far behind: refuse rather than run out of memory."""
RETRY_SECONDS = 5.0
"""How long one append is tried, with the same message id, before its callers are told 503."""


class _Group(NamedTuple):
    records: list[bytes]
    size: int
    durable: "asyncio.Future[int]"


class Appender:
    """Appends JSON records to one subject; each message is a JSON array of them."""

    def __init__(self, bus: Bus, subject: str) -> None:
        self._bus = bus
        self._subject = subject
        self._waiting: deque[_Group] = deque()
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None

    async def append(self, records: list[bytes]) -> int:
        """Returns the stream sequence once every record is durable. Unavailable: it is not known to be stored."""
        size = sum(map(len, records)) + len(records) + 1
        if size > LARGEST_BYTES:
            raise TooLarge(f"These logs take {size:,} bytes together; at most {LARGEST_BYTES:,} fit into one request.")
        await self._bus.online()
        if self._waiting_bytes + size > WAITING_BYTES:
            raise Unavailable("Too many logs are waiting to be stored; nothing of this request was. Try again.")
        durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Group(records, size, durable))
        self._waiting_bytes += size
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name=f"append {self._subject}")
        return await asyncio.shield(durable)

    async def _write(self) -> None:
        while self._waiting:
            groups = self._take()
            payload = b"[" + b",".join(record for group in groups for record in group.records) + b"]"
            try:
                sequence = await self._retry(payload, ids.mint("app"))
            except Exception as error:  # noqa: BLE001 - every waiting caller must hear of it
                problem = error if isinstance(error, Problem) else Unavailable(f"Not stored: {error}")
                _refuse(groups, problem)
                if isinstance(problem, Unavailable):  # those behind would wait as long, one batch after the other
                    _refuse(self._waiting, Unavailable("Nothing of this request was stored. Try again."))
                    self._waiting.clear()
                    self._waiting_bytes = 0
            else:
                for group in groups:
                    if not group.durable.done():
                        group.durable.set_result(sequence)

    def _take(self) -> list[_Group]:
        groups: list[_Group] = []
        size = 0
        while self._waiting and (not groups or size + self._waiting[0].size <= MESSAGE_BYTES):
            group = self._waiting.popleft()
            groups.append(group)
            size += group.size
        self._waiting_bytes -= size
        return groups

    async def _retry(self, payload: bytes, message_id: str) -> int:
        """Append, again if it is unclear whether the first try was stored: the message id makes repeats harmless."""
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return await self._bus.append(self._subject, payload, message_id=message_id, timeout_seconds=2.0)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)


def _refuse(groups: Iterable[_Group], problem: Problem) -> None:
    for group in groups:
        if not group.durable.done():
            group.durable.set_exception(problem)
            group.durable.exception()  # a caller that left does not hear it: that is no warning
