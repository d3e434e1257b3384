"""Books what calls to models used: increments of many calls are written together, each exactly once.

While a batch is written, increments of the next one are added up in memory, so their number there is that of different
rows and not of calls. A batch is repeated until the database has taken it. While the database is away nobody waits for
it: calls are answered, and their increments written when it is back.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from services.generation.store import Counts, SpendKey, UsageBatch, UsageKey
from shared import ids
from shared.errors import Problem, Unavailable

logger = logging.getLogger(__name__)

MAX_ROWS = 20_000
"""Rows in memory that are not written. With more, calls are refused before a provider is asked."""
WAIT_SECONDS = 0.75
"""How long an answer waits for its booking. Then the database counts as away, until it has taken the batch."""
LINGER_SECONDS = 0.008
"""How long a batch waits for more calls if the last one had several: a write costs as much for ten as for one."""
_RETRY_SECONDS = 0.5
_CLOSE_SECONDS = 3.0
"""How long a process that stops tries to write what is in memory."""


class Booking(NamedTuple):
    """The increments of one call to a provider."""

    key: UsageKey
    counts: Counts


class Receipt:
    """Tells when bookings are durable, or cannot be made so before the database is back."""

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self._settled = asyncio.Event()
        self._on_timeout = on_timeout

    def settle(self) -> None:
        """End the wait for it."""
        self._settled.set()

    async def wait(self) -> None:
        """Return when it is settled, or after `WAIT_SECONDS`: an answer that was paid for is not lost."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._settled.wait()
        except TimeoutError:
            self._on_timeout()


class BatchStore(Protocol):
    """What the ledger needs of `UsageStore`."""

    async def add(self, batch: UsageBatch, writer: str, number: int) -> None: ...


class Ledger:
    """The bookings of one process; `run` writes them."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store
        self.on_written: Callable[[Iterable[SpendKey]], None] | None = None
        """Called with the totals that a written batch has changed."""
        self._writer = ids.mint("writer")
        self._number = 0
        """Of the last batch that was begun."""
        self._pending = UsageBatch()
        self._in_flight = UsageBatch()
        self._receipts: list[Receipt] = []
        """Of the bookings in `_pending`."""
        self._in_flight_receipts: list[Receipt] = []
        """Of the bookings in the batch that was begun last."""
        self._has_pending = asyncio.Event()
        self._is_written = asyncio.Event()
        """Set while nothing is in memory."""
        self._is_written.set()
        self.is_away = False
        """Whether the database has not taken the last batch, or not in time."""

    def check_room(self) -> None:
        """Raise Unavailable if more rows wait for the database than may."""
        if len(self._pending.rows) + len(self._in_flight.rows) >= MAX_ROWS:
            raise Unavailable("What calls cost cannot be written down at the moment, so none is made. Try again.")

    def book(self, bookings: Iterable[Booking]) -> Receipt:
        """Add bookings to the next batch."""
        receipt = Receipt(self._set_away)
        booked = False
        for booking in bookings:
            self._pending.add(booking.key, booking.counts)
            booked = True
        if booked:
            self._is_written.clear()
            self._has_pending.set()
        if booked and not self.is_away:
            self._receipts.append(receipt)
        else:
            receipt.settle()
        return receipt

    def unwritten_spend(self, key: SpendKey) -> int:
        """Return the nano-dollars of a total that are in memory alone."""
        return self._pending.spend[key] + self._in_flight.spend[key]

    async def run(self) -> None:
        """Write batches, one at a time, until cancelled."""
        while True:
            await self._has_pending.wait()
            if len(self._in_flight_receipts) > 1:
                await asyncio.sleep(LINGER_SECONDS)
            self._has_pending.clear()
            batch = self._in_flight = self._pending
            self._in_flight_receipts = self._receipts
            self._pending, self._receipts = UsageBatch(), []
            self._number += 1
            await self._write(batch)
            self._in_flight = UsageBatch()
            if not self._pending.rows:
                self._is_written.set()
            _settle(self._in_flight_receipts)
            if self.on_written and batch.spend:
                self.on_written(batch.spend)

    async def _write(self, batch: UsageBatch) -> None:
        """Write a batch, again until it succeeds; after the first failure nobody waits for it."""
        while True:
            try:
                await self._store.add(batch, self._writer, self._number)
            except Exception as error:  # whatever the reason, it is kept and written later
                if not isinstance(error, Problem):
                    logger.exception("usage cannot be written")
                self._set_away()
            else:
                if self.is_away:
                    logger.info("usage is written again: %d rows", len(batch.rows))
                self.is_away = False
                return
            await asyncio.sleep(_RETRY_SECONDS)

    def _set_away(self) -> None:
        """Let nobody wait for a booking until a batch is written."""
        if not self.is_away:
            logger.warning("usage is not written for now, and is kept in memory")
        self.is_away = True
        _settle((*self._in_flight_receipts, *self._receipts))
        self._receipts.clear()

    async def close(self) -> None:
        """Wait until everything is written, at most some seconds; what is lost then is in the log."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._is_written.wait()
        except TimeoutError:
            lost = [row for batch in (self._in_flight, self._pending) for row in batch.rows.items()]
            logger.critical("usage was not written: %s", lost)


def _settle(receipts: Iterable[Receipt]) -> None:
    for receipt in receipts:
        receipt.settle()
