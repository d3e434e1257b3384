"""Read-your-writes: before a read, wait until every record accepted before it is stored.

What is accepted is known from the stream; what is stored is known from this process's own consumer or, where another
replica stored it, from the acknowledgements the server has seen.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from shared.bus import ConsumerProgress
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_FIRST_POLL_SECONDS = 0.002
"""How long to wait for this process's own storing before the server is asked; doubles with each request."""
_MAX_POLL_SECONDS = 0.05
_MAX_STORED_AHEAD = 10_000
"""Bounds the stored sequences kept that do not follow the floor yet, because another replica stores those between."""


class ReadBarrier:
    """Follows how far the `LOGS` stream is stored, and lets reads wait for it."""

    def __init__(self, get_progress: Callable[[], Awaitable[ConsumerProgress]], wait_seconds: float) -> None:
        self._get_progress = get_progress
        self._wait_seconds = wait_seconds
        self.wanted = asyncio.Event()
        """Set while a read waits for messages that are not stored yet; wakes the consumer."""
        self._floor = 0
        """Every message up to this sequence is stored."""
        self._stored_ahead: set[int] = set()
        """Stored sequences above the floor, with a gap between."""
        self._advanced = asyncio.Event()
        """Set, and replaced by a new event, whenever the floor may have moved."""
        self._current_request: asyncio.Task[ConsumerProgress] | None = None
        self._next_request: asyncio.Task[ConsumerProgress] | None = None

    def mark_stored(self, sequences: Iterable[int]) -> None:
        """Note that this process has stored the messages with these stream sequences."""
        self._stored_ahead.update(sequences)
        if len(self._stored_ahead) > _MAX_STORED_AHEAD:
            self._stored_ahead.clear()  # the server's acknowledgements tell the same
        self._advance_floor()

    async def wait_until_stored(self) -> None:
        """Wait until all that was accepted before is stored. Raises Unavailable if it is not after `wait_seconds`."""
        if not await self.is_stored_in_time():
            raise Unavailable("Accepted logs are still being stored; the answer might lack some of them. Try again.")

    async def is_stored_in_time(self) -> bool:
        """Wait, at most `wait_seconds`, until all that was accepted before is stored; return whether it is."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._wait_for_sequence((await self._fresh_progress()).last_sequence)
        except (TimeoutError, Unavailable) as error:
            logger.warning("storing is behind: %r", error)
            return False
        return True

    async def _wait_for_sequence(self, sequence: int) -> None:
        poll_seconds = _FIRST_POLL_SECONDS
        while self._floor < sequence:
            self.wanted.set()
            advanced = self._advanced
            try:
                async with asyncio.timeout(poll_seconds):
                    await advanced.wait()
            except TimeoutError:
                await self._fresh_progress()
                poll_seconds = min(2 * poll_seconds, _MAX_POLL_SECONDS)

    async def _fresh_progress(self) -> ConsumerProgress:
        """Return the consumer's progress as of now; callers that come while a request is under way share the next."""
        if self._next_request is None:
            self._next_request = asyncio.create_task(self._request_progress(self._current_request))
        return await asyncio.shield(self._next_request)

    async def _request_progress(self, previous: "asyncio.Task[ConsumerProgress] | None") -> ConsumerProgress:
        if previous is not None:
            await asyncio.wait({previous})
        # Callers that come from here on wait for another request.
        self._current_request, self._next_request = self._next_request, None
        progress = await self._get_progress()
        if progress.last_sequence < self._floor:  # the stream was deleted and created again
            self._floor = 0
            self._stored_ahead.clear()
        self._floor = max(self._floor, progress.ack_floor)
        self._stored_ahead = {sequence for sequence in self._stored_ahead if sequence > self._floor}
        self._advance_floor()
        return progress

    def _advance_floor(self) -> None:
        while self._floor + 1 in self._stored_ahead:
            self._floor += 1
            self._stored_ahead.discard(self._floor)
        self._advanced.set()
        self._advanced = asyncio.Event()
