"""Shares the reading of logs, projects and sessions between organisations: their answers may be large."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shared.errors import Unavailable

MAX_READS = 3
"""Of one organisation, until their answers are built; more wait. What is built and not sent holds room."""
_WAIT_SECONDS = 30.0


@dataclass
class _Turns:
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_READS))
    users: int = 0
    """Those that have a turn, or wait for one."""


class Reads:
    """The reads that are in hand, by organisation."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turns] = {}

    @asynccontextmanager
    async def turn(self, organisation: str) -> AsyncIterator[None]:
        """Wait until the organisation has fewer than `MAX_READS` in hand. Raises Unavailable after `_WAIT_SECONDS`."""
        turns = self._turns.setdefault(organisation, _Turns())
        turns.users += 1
        try:
            try:
                async with asyncio.timeout(_WAIT_SECONDS):
                    await turns.free.acquire()
            except TimeoutError:
                raise Unavailable(f"{MAX_READS} other reads of your organisation take too long; try again.") from None
            try:
                yield
            finally:
                turns.free.release()
        finally:
            turns.users -= 1
            if not turns.users:
                del self._turns[organisation]
