"""Counters of rate limits, in collections of the library `limits`; all replicas count together."""

import math
import time

from limits import RateLimitItem
from limits.aio.storage import MongoDBStorage
from limits.aio.strategies import FixedWindowRateLimiter

from shared.mongo import connection_options, database_name, raises_unavailable
from shared.settings import DatabaseSettings


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
