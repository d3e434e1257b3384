"""What handlers work with."""

from dataclasses import dataclass

from services.logging.descendants import DescendantResolution
from services.logging.purge import Purge
from services.logging.read_barrier import ReadBarrier
from services.logging.store import DeletionStore, LogDeletionStore, LogStore, SessionStore, UnusedBlobStore
from shared.bus import Bus


@dataclass(frozen=True)
class Deps:
    """Made once, in `main.py`."""

    bus: Bus
    logs: LogStore
    log_deletions: LogDeletionStore
    unused_blobs: UnusedBlobStore
    sessions: SessionStore
    deletions: DeletionStore
    read_barrier: ReadBarrier
    purge: Purge
    descendants: DescendantResolution
