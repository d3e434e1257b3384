"""Counters of rate limits, in collections of the library `limits`; all replicas count together."""

import math
import time
from typing import NamedTuple

from limits import RateLimitItem
from limits.aio.storage import MongoDBStorage
from limits.aio.strategies import FixedWindowRateLimiter

from shared.mongo import connection_options, database_name, raises_unavailable
from shared.settings import DatabaseSettings


class Lease(NamedTuple):
    """Events that were counted ahead."""

    granted: int
    seconds_left: float
    """Until the end of the window they were counted in."""


@raises_unavailable
class RateLimitStore:
    """Counts events by names, such as failures by address, in fixed windows."""

    def __init__(self, settings: DatabaseSettings, service: str) -> None:
        self._storage = MongoDBStorage(
            settings.mongo_url.get_secret_value(),
            database_name=database_name(settings, service),
            counter_collection_name="rate_counters",
            window_collection_name="rate_windows",
            **connection_options(settings, service),
        )
        self._limiter = FixedWindowRateLimiter(self._storage)

    async def count(self, limit: RateLimitItem, *names: str, cost: int = 1) -> bool:
        """Count an event; return whether it was within the limit."""
        return await self._limiter.hit(limit, *names, cost=cost)

    async def lease(self, limit: RateLimitItem, name: str, count: int) -> Lease:
        """Count at most `count` events ahead; return how many of them are within the limit, and for how long.

        The number of the window is part of the counter's name, so that a lease is certain to be of the window whose
        end is told. The windows of different names (hex) begin at different times, so that not all leases end at once.
        """
        seconds = limit.get_expiry()
        window, elapsed = divmod(time.time() - int(name[:8], 16) % seconds, seconds)
        counted = await self._storage.incr(limit.key_for(name, str(int(window))), 2 * seconds, count)
        return Lease(max(0, min(count, limit.amount - (counted - count))), seconds - elapsed)

    async def has_room(self, limit: RateLimitItem, *names: str) -> bool:
        """Return whether an event would be within the limit."""
        return await self._limiter.test(limit, *names)

    async def forget(self, limit: RateLimitItem, *names: str) -> None:
        """Begin to count anew."""
        await self._limiter.clear(limit, *names)

    async def seconds_left(self, limit: RateLimitItem, *names: str) -> float:
        """Return the whole seconds until the window ends, at least one."""
        stats = await self._limiter.get_window_stats(limit, *names)
        return float(max(1, math.ceil(stats.reset_time - time.time())))

    def close(self) -> None:
        """Close the connections."""
        self._storage.storage.close()
