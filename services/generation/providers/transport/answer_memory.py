"""`AnswerMemory`: bounds what is held of the answers of all providers before it is passed on.

A caller may have named the provider, whose answers then are as large as it likes: whole ones, and single events of a
stream that the caller does not read. Where there is no room nothing more is read, so that the provider waits.
"""

import asyncio

from shared.fair_limiter import FairLimiter

MAX_BYTES = 40 * 1024 * 1024
"""Of what was received and not passed on, three quarters of it for one organisation alone. Parsed, with its texts and
its log, it takes about four times as much."""
STEP_BYTES = 256 * 1024
"""Taken at a time."""
FREE_BYTES = 128 * 1024
"""Of each answer, not counted: nearly all answers and events are smaller."""


class HeldAnswer:
    """What is held of one response."""

    def __init__(self, memory: "AnswerMemory", organisation: str) -> None:
        self.organisation = organisation
        self.steps = 0
        """Taken of the memory."""
        self._memory = memory
        self._bytes = 0

    async def add(self, size: int) -> None:
        """Count `size` more bytes, waiting for room as long as it takes."""
        self._bytes += size
        while self._bytes > FREE_BYTES + self.steps * STEP_BYTES and not self._memory.is_unbounded(self):
            await self._memory.grow(self)

    def release(self) -> None:
        """Count nothing any more: what was received is passed on, or dropped."""
        self._bytes = 0
        self._memory.release(self)


class AnswerMemory:
    """`MAX_BYTES` that the answers to all organisations share (`shared/fair_limiter.py`).

    One answer at a time may take more than there is: otherwise several large ones could wait for each other for ever.
    """

    def __init__(self) -> None:
        self._limiter = FairLimiter(MAX_BYTES // STEP_BYTES)
        self._unbounded: HeldAnswer | None = None
        self._waiting: dict[HeldAnswer, asyncio.Future[None]] = {}
        """In the order they came."""

    def hold(self, organisation: str) -> HeldAnswer:
        """Return what will be held of a response to an organisation: nothing so far."""
        return HeldAnswer(self, organisation)

    def is_unbounded(self, held: HeldAnswer) -> bool:
        """Whether this is the answer that may take more than there is."""
        return self._unbounded is held

    async def grow(self, held: HeldAnswer) -> None:
        """Take one more step for an answer, waiting for it; or make it the one that may take more than there is."""
        if self._try_grow(held):
            return
        granted = self._waiting[held] = asyncio.get_running_loop().create_future()
        try:
            await granted
        finally:
            self._waiting.pop(held, None)

    def release(self, held: HeldAnswer) -> None:
        """Return all that was taken for an answer, and grant it to those that wait."""
        if not held.steps and self._unbounded is not held:
            return
        if held.steps:
            self._limiter.release(held.organisation, held.steps)
            held.steps = 0
        if self._unbounded is held:
            self._unbounded = None
        for waiting, granted in list(self._waiting.items()):
            if not granted.done() and self._try_grow(waiting):
                granted.set_result(None)

    def _try_grow(self, held: HeldAnswer) -> bool:
        if self._limiter.try_acquire(held.organisation):
            held.steps += 1
            return True
        if self._unbounded is None:
            self._unbounded = held
        return self._unbounded is held
