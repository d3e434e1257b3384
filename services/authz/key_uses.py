"""Notes when API keys were used last, and writes it to the database from time to time: a use is no write of its own."""

import asyncio
import logging
from datetime import UTC, datetime

from services.authz.store.keys import KeyStore
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_WRITE_SECONDS = 10.0


class KeyUses:
    """The times that are not written yet, by key id.

    A gateway that goes on using a key asks again after 15 s, so with the writing the times are exact to half a minute.
    """

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._times: dict[str, datetime] = {}

    def note(self, key_id: str) -> None:
        """Note that a key is used now."""
        self._times[key_id] = datetime.now(UTC)

    async def write(self) -> None:
        """Write what was noted; keep it for the next time if the database is away."""
        times, self._times = self._times, {}
        try:
            await self._store.set_last_used(times)
        except Unavailable as problem:
            self._times = times | self._times
            logger.info("when keys were used last could not be written: %s", problem.message)

    async def write_regularly(self) -> None:
        """Write every ten seconds until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await self.write()
