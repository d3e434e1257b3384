"""Background task that deletes the logs and sessions of deleted projects.

It runs beside the consumer, because a large project takes minutes and storing must not wait. Reads hide what is left.
"""

import asyncio
import logging
from contextlib import suppress

from services.logging.store import Deletion, DeletionStore, LogDeletionStore, SessionStore, UnusedBlobStore
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_POLL_SECONDS = 10.0
"""How often to look for deletions that other replicas noted and did not finish."""
_PROJECTS_PER_QUERY = 100


class Purge:
    """Deletes what is left of deleted projects. Replicas may work on one project at once: deleting is idempotent."""

    def __init__(
        self,
        deletions: DeletionStore,
        logs: LogDeletionStore,
        sessions: SessionStore,
        unused_blobs: UnusedBlobStore,
    ) -> None:
        self._deletions = deletions
        self._logs = logs
        self._sessions = sessions
        self._unused_blobs = unused_blobs
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Let `run` look for pending deletions now."""
        self._wake.set()

    async def run(self) -> None:
        """Purge until cancelled, beginning with what an earlier process left; errors are logged and tried again."""
        while True:
            self._wake.clear()
            try:
                await self.purge_pending()
            except Unavailable as error:
                logger.warning("logs of deleted projects stay for now", extra={"error": error.message})
            except Exception:
                logger.exception("logs of deleted projects could not be removed")
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wake.wait()

    async def purge_pending(self) -> None:
        """Delete the logs and sessions of all projects with a pending deletion. Raises Unavailable without MongoDB."""
        while pending := await self._deletions.list_pending(_PROJECTS_PER_QUERY):
            for deletion in pending:
                await self._delete_logs(deletion)
                await self._sessions.remove_project(deletion.organisation, deletion.project_id)
                await self._deletions.mark_purged(deletion)

    async def _delete_logs(self, deletion: Deletion) -> None:
        """Delete the logs of a project, some at a time. Their blobs are noted first, for a process that is killed."""
        while logs := await self._logs.list_project_logs(deletion.organisation, deletion.project_id):
            digests = {digest for blobs in logs.values() for digest in blobs}
            await self._unused_blobs.insert_many(deletion.organisation, digests)
            await self._logs.delete_documents(logs)
