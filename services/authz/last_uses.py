"""Notes when API keys and sessions were used last, and writes it from time to time: a use is no write of its own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_WRITE_SECONDS = 10.0


class LastUses:
    """The times that are not written yet, by the id of the key or session.

    A gateway that goes on using one asks again after 15 s, so with the writing the times are exact to half a minute.
    """

    def __init__(self, write: Callable[[Mapping[str, datetime]], Awaitable[None]]) -> None:
        self._write = write
        self._times: dict[str, datetime] = {}

    def note(self, used_id: str) -> None:
        """Note that a key or session is used now."""
        self._times[used_id] = datetime.now(UTC)

    async def write(self) -> None:
        """Write what was noted; keep it for the next time if the database is away."""
        times, self._times = self._times, {}
        try:
            await self._write(times)
        except Unavailable as problem:
            self._times = times | self._times
            logger.info("last uses could not be written: %s", problem.message)

    async def write_regularly(self) -> None:
        """Write every ten seconds until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await self.write()
