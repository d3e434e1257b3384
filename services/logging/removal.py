"""The logs of projects that are gone: few are removed at once, many beside everything else, so that storing goes on."""

import asyncio
import logging

from services.logging.store import DeletionStore, LogStore, SessionStore
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_AT_ONCE = 2_000
"""Logs removed while a batch waits: about a tenth of a second."""
_PAUSE_SECONDS = 0.02
"""Between two thousands, for what else the database has to do."""
_RETRY_SECONDS = 1.0


class Removal:
    """Removes what deleted projects have; what is begun is finished after a restart, by any replica."""

    def __init__(self, logs: LogStore, sessions: SessionStore, deletions: DeletionStore) -> None:
        self._logs = logs
        self._sessions = sessions
        self._deletions = deletions
        self._running: set[asyncio.Task[None]] = set()

    async def begin(self, organisation: str, project_id: str) -> None:
        """Remember that the project is gone, and remove its logs, or the first of them."""
        await self._deletions.remember(organisation, project_id)
        if await self._logs.remove_some(organisation, project_id, _AT_ONCE):
            await self._end(organisation, project_id)
        else:
            self._go_on(organisation, project_id)

    async def resume(self) -> None:
        """Go on with what was begun and not finished."""
        for organisation, project_id in await self._deletions.unfinished():
            self._go_on(organisation, project_id)

    def stop(self) -> None:
        """Leave the rest to the next start."""
        for task in self._running:
            task.cancel()

    def _go_on(self, organisation: str, project_id: str) -> None:
        task = asyncio.create_task(self._rest(organisation, project_id), name=f"remove {project_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _rest(self, organisation: str, project_id: str) -> None:
        while True:
            try:
                if await self._logs.remove_some(organisation, project_id, _AT_ONCE):
                    await self._end(organisation, project_id)
                    return
                await asyncio.sleep(_PAUSE_SECONDS)
            except Unavailable as error:
                logger.warning("the logs of a deleted project stay for now", extra={"error": error.message})
                await asyncio.sleep(_RETRY_SECONDS)

    async def _end(self, organisation: str, project_id: str) -> None:
        await self._sessions.leave(organisation, project_id)
        await self._deletions.finish(organisation, project_id)
