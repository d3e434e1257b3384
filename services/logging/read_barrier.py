"""Read your writes: before a read, wait until everything accepted before the question is stored.

What was accepted is known from the stream, what is stored from this process's own reader or, when another replica
does the work, from the acknowledgements the server has seen.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from shared.bus import ConsumerProgress
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_FIRST_LOOK_SECONDS = 0.002
_LONGEST_LOOK_SECONDS = 0.05
_MOST_AHEAD = 10_000
"""Stored sequences remembered that do not join the floor yet, because another replica has those between."""


class ReadBarrier:
    """How far storing is in the stream."""

    def __init__(self, ask: Callable[[], Awaitable[ConsumerProgress]], wait_seconds: float) -> None:
        self._ask = ask
        self._wait_seconds = wait_seconds
        self.wanted = asyncio.Event()
        """Somebody waits for what is not stored yet."""
        self._floor = 0
        """Everything up to here is stored."""
        self._ahead: set[int] = set()
        self._moved = asyncio.Event()
        self._flying: asyncio.Task[ConsumerProgress] | None = None
        self._next: asyncio.Task[ConsumerProgress] | None = None

    def stored(self, sequences: Iterable[int]) -> None:
        """This process has stored these messages."""
        self._ahead.update(sequences)
        if len(self._ahead) > _MOST_AHEAD:
            self._ahead.clear()  # the server knows as well
        self._join()

    async def wait_until_stored(self) -> bool:
        """Whether everything accepted before this call is stored; waits for that, at most `wait_seconds`."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._reach((await self._fresh()).last)
        except (TimeoutError, Unavailable) as error:
            logger.warning("reading without the newest logs: storing is behind", extra={"error": repr(error)})
            return False
        return True

    async def _reach(self, target: int) -> None:
        look = _FIRST_LOOK_SECONDS
        while self._floor < target:
            self.wanted.set()
            moved = self._moved
            try:
                async with asyncio.timeout(look):
                    await moved.wait()
            except TimeoutError:
                await self._fresh()
                look = min(2 * look, _LONGEST_LOOK_SECONDS)

    async def _fresh(self) -> ConsumerProgress:
        """ConsumerProgress as of now. Those who ask while a request is under way share the next one."""
        if self._next is None:
            self._next = asyncio.create_task(self._look(self._flying))
        return await asyncio.shield(self._next)

    async def _look(self, earlier: "asyncio.Task[ConsumerProgress] | None") -> ConsumerProgress:
        if earlier is not None:
            await asyncio.wait({earlier})
        self._flying, self._next = self._next, None  # who comes from here on waits for another request
        progress = await self._ask()
        if progress.last < self._floor:  # the stream was made anew
            self._floor = 0
            self._ahead.clear()
        self._floor = max(self._floor, progress.floor)
        self._ahead = {sequence for sequence in self._ahead if sequence > self._floor}
        self._join()
        return progress

    def _join(self) -> None:
        while self._floor + 1 in self._ahead:
            self._floor += 1
            self._ahead.discard(self._floor)
        self._moved.set()
        self._moved = asyncio.Event()
