"""Background task that removes the blobs of deleted logs and projects which nothing of the organisation names any more.

Whoever is about to name a blob makes sure before that it is stored, and that its head is young (`Blobs.store`). So a
blob with an old head (`unused_seconds`) is named by something that is stored by now, or by nothing. That it is not used
again while it is removed is decided by its head: it is deleted by its sequence, and appended anew only in the place of
the one that was read (shared/blobs.py). Of its parts those older than the deleted head go: none that is stored again.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from services.logging.read_barrier import ReadBarrier
from services.logging.store import LogDeletionStore, UnusedBlob, UnusedBlobStore
from shared.blobs import STREAM, BlobKey
from shared.bus import Bus, delete_message, get_last_of_leader, purge_before
from shared.contracts.generation.blobs import GetHeldBlobs
from shared.contracts.principal import Principal
from shared.errors import Problem, Unavailable

logger = logging.getLogger(__name__)

_MAX_POLL_SECONDS = 10.0
_BLOBS_PER_QUERY = 100
_QUERY_TIMEOUT_SECONDS = 30.0


class BlobRemoval:
    """Removes unused blobs. Any number of replicas may, and what a killed one has begun is finished."""

    def __init__(
        self,
        bus: Bus,
        unused_blobs: UnusedBlobStore,
        log_deletions: LogDeletionStore,
        read_barrier: ReadBarrier,
        unused_seconds: float,
    ) -> None:
        self._bus = bus
        self._unused_blobs = unused_blobs
        self._log_deletions = log_deletions
        self._read_barrier = read_barrier
        self._unused_seconds = unused_seconds

    async def run(self) -> None:
        """Remove what is due until cancelled; errors are logged and tried again."""
        while True:
            try:
                await self.remove_due()
            except Unavailable as error:
                logger.warning("unused images stay for now", extra={"error": error.message})
            except Exception:
                logger.exception("unused images could not be removed")
            await asyncio.sleep(min(_MAX_POLL_SECONDS, self._unused_seconds))

    async def remove_due(self) -> None:
        """Remove the blobs that are due, unless they are in use. Raises the first error after it has tried those of
        every organisation: what cannot be said of one must not keep the images of the others.
        """
        errors: dict[str, Problem] = {}
        while due := await self._unused_blobs.list_due(_BLOBS_PER_QUERY, without=list(errors)):
            for organisation in dict.fromkeys(blob.organisation for blob in due):
                try:
                    await self._remove_of(organisation, [blob for blob in due if blob.organisation == organisation])
                except Problem as error:
                    errors[organisation] = error
        if errors:
            raise next(iter(errors.values()))

    async def _remove_of(self, organisation: str, blobs: Sequence[UnusedBlob]) -> None:
        old = [blob for blob in blobs if await self._is_unused_for_long(blob)]
        held = await self._list_held(organisation, [blob.digest for blob in old]) if old else set()
        for blob in old:
            if blob.digest in held or await self._remove(blob):
                await self._unused_blobs.delete(blob)

    async def _is_unused_for_long(self, blob: UnusedBlob) -> bool:
        """Return whether the blob's head is old; else put it off, or finish the removal if it has no head."""
        key = BlobKey(blob.organisation, blob.digest)
        head = await get_last_of_leader(self._bus, STREAM, key.subject("head"))
        if head is None:
            if blob.head is not None:
                await purge_before(self._bus, STREAM, key.subject("*"), blob.head)
            await self._unused_blobs.delete(blob)
            return False
        if (datetime.now(UTC) - head.stored_at).total_seconds() < self._unused_seconds:
            await self._unused_blobs.postpone(blob, head.stored_at)
            return False
        return True

    async def _list_held(self, organisation: str, digests: Sequence[str]) -> set[str]:
        """Return the blobs that something names. Raises Unavailable if that cannot be said now."""
        await self._read_barrier.wait_until_stored()
        principal = Principal.for_service("logging", organisation)
        query = GetHeldBlobs(principal=principal, digests=list(digests))
        held = await self._bus.request(query, timeout_seconds=_QUERY_TIMEOUT_SECONDS)
        return {*held.digests, *await self._log_deletions.list_held_blobs(organisation, digests)}

    async def _remove(self, blob: UnusedBlob) -> bool:
        """Delete the head, so that the blob does not exist any more, then its parts. Return False if it was used again,
        or another replica is at it; then nothing is deleted.
        """
        key = BlobKey(blob.organisation, blob.digest)
        head = await get_last_of_leader(self._bus, STREAM, key.subject("head"))
        if head is None or (datetime.now(UTC) - head.stored_at).total_seconds() < self._unused_seconds:
            return False
        await self._unused_blobs.begin_removal(blob, head.sequence)
        if not await delete_message(self._bus, STREAM, head, key.subject("head")):
            return False
        await purge_before(self._bus, STREAM, key.subject("*"), head.sequence)
        return True
