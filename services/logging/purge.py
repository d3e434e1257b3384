"""Removing what deleted projects had, beside storing: that of a large project takes minutes, and storing waits for
nobody. Reads do not show it meanwhile.
"""

import asyncio
import logging
from contextlib import suppress

from services.logging.store import DeletionStore, LogStore, SessionStore
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0
"""How often to look for what other replicas noted and did not finish."""
_AT_ONCE = 100


class Purge:
    """Any number of replicas may be at the same project: removing twice is removing once."""

    def __init__(self, deletions: DeletionStore, logs: LogStore, sessions: SessionStore) -> None:
        self._deletions = deletions
        self._logs = logs
        self._sessions = sessions
        self._due = asyncio.Event()

    def wake(self) -> None:
        """There is something to remove."""
        self._due.set()

    async def run(self) -> None:
        """Go on for ever, with what an earlier process left first."""
        while True:
            self._due.clear()
            try:
                await self.finish()
            except Unavailable as error:
                logger.warning("logs of deleted projects stay for now", extra={"error": error.message})
            except Exception:
                logger.exception("logs of deleted projects could not be removed")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._due.wait()

    async def finish(self) -> None:
        """Remove all there is to remove now. Errors: Unavailable."""
        while unfinished := await self._deletions.unfinished(_AT_ONCE):
            for one in unfinished:
                await self._logs.remove_project(one.organisation, one.project_id)
                await self._sessions.leave(one.organisation, one.project_id)
                await self._deletions.finish(one)
