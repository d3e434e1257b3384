"""Permits that organisations share: one with many calls leaves some for the others, and nobody queues behind it.

The share is that of dynamic thresholds for buffers (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6 (2),
1998).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

_SHARE = 3
"""An organisation may take more while it holds fewer than so many times the permits that are free."""


class FairLimiter:
    """Permits (workers, slots, bytes) of which an organisation holds at most three times as many as it leaves free.

    So one alone gets three quarters, two get three sevenths each, three get three tenths: something is left for the
    next. Permits are never taken back. Who waits is served in the order of how few permits its organisation holds; the
    calls of one organisation in the order they came.
    """

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._held: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By organisation; that which has waited longest is first, and no queue is empty."""

    @property
    def free(self) -> int:
        """How many permits nobody holds."""
        return self._free

    def held(self, organisation: Hashable) -> int:
        """Return how many permits the organisation holds."""
        return self._held.get(organisation, 0)

    def try_acquire(self, organisation: Hashable, amount: int = 1) -> bool:
        """Take `amount` permits at once; return whether they could be taken. The last ones may go over the share."""
        if amount > self._free or self.held(organisation) >= _SHARE * self._free:
            return False
        self._free -= amount
        self._held[organisation] = self.held(organisation) + amount
        return True

    async def acquire(self, organisation: Hashable) -> None:
        """Take one permit, waiting for it as long as it takes; a caller that is cancelled has taken none."""
        if self.try_acquire(organisation):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(organisation, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._remove(organisation, waiter)
            else:  # it was granted in the same moment
                self.release(organisation)
            raise

    def release(self, organisation: Hashable, amount: int = 1) -> None:
        """Return permits that the organisation holds, and grant them to those who wait."""
        self._free += amount
        self._held[organisation] -= amount
        if not self._held[organisation]:
            del self._held[organisation]
        self._grant()

    @asynccontextmanager
    async def hold(self, organisation: Hashable) -> AsyncIterator[None]:
        """Hold one permit while the block runs."""
        await self.acquire(organisation)
        try:
            yield
        finally:
            self.release(organisation)

    def _grant(self) -> None:
        """Grant permits until none is free, or every organisation that waits has its share."""
        while self._waiting:
            organisation = min(self._waiting, key=self.held)
            queue = self._waiting[organisation]
            if queue[0].done():  # cancelled, and its caller did not run yet
                queue.popleft()
            elif self.try_acquire(organisation):
                queue.popleft().set_result(None)
            else:  # nor may any other, as each holds at least as many
                return
            if not queue:
                del self._waiting[organisation]

    def _remove(self, organisation: Hashable, waiter: "asyncio.Future[None]") -> None:
        queue = self._waiting.get(organisation)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._waiting[organisation]
