"""Admits requests: bounds the memory of those in hand and the workers for them, each shared among organisations."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager

from nats.aio.msg import Msg
from pydantic import BaseModel

from shared.errors import RateLimited, Unavailable
from shared.fair_limiter import FairLimiter

MAX_BYTES = 32 * 1024 * 1024
"""Of the requests in hand, whether they run or wait for a worker. Memory takes up to eight times as much: parsed, with
its template populated, as the body for the provider, as a log."""
OVERHEAD_BYTES = 24 * 1024
"""Counted for a request beside its payload: its tasks, connections and replies. So at most 1,365 are in hand."""
_RETRY_AFTER_SECONDS = 2.0


class RequestBudget:
    """`MAX_BYTES` that organisations share."""

    def __init__(self) -> None:
        self._limiter = FairLimiter(MAX_BYTES)

    @contextmanager
    def hold(self, organisation: Hashable, payload_bytes: int) -> Iterator[None]:
        """Count a request while the block runs.

        Raises RateLimited if the organisation has its share in hand, Unavailable if all together have as many as fit.
        """
        size = payload_bytes + OVERHEAD_BYTES
        if not self._limiter.try_acquire(organisation, size):
            if self._limiter.held(organisation):
                raise RateLimited(
                    "Your organisation has as many requests under way as it may at a time. Try again when some of them "
                    "have ended.",
                    retry_after_seconds=_RETRY_AFTER_SECONDS,
                )
            raise Unavailable("There are as many requests under way as fit. Try again.")
        try:
            yield
        finally:
            self._limiter.release(organisation, size)


def organisation_of(request: BaseModel, raw: Msg) -> Hashable:
    """Return the organisation that a request is counted for; one that belongs to none is counted by itself."""
    return getattr(request, "organisation", None) or raw.reply


@asynccontextmanager
async def hold_worker(workers: FairLimiter, organisation: Hashable, queue_seconds: float) -> AsyncIterator[None]:
    """Hold a worker while the block runs, after waiting for it. Raises Unavailable after `queue_seconds`."""
    try:
        async with asyncio.timeout(queue_seconds):
            await workers.acquire(organisation)
    except TimeoutError:
        raise Unavailable("The service has more to do than it can at the moment. Try again.") from None
    try:
        yield
    finally:
        workers.release(organisation)
