"""What handlers work with."""

from dataclasses import dataclass

from services.logging.purge import Purge
from services.logging.read_barrier import ReadBarrier
from services.logging.store import DeletionStore, LogStore, SessionStore
from shared.bus import Bus


@dataclass(frozen=True)
class Deps:
    """Made once, in `main.py`."""

    bus: Bus
    logs: LogStore
    sessions: SessionStore
    deletions: DeletionStore
    read_barrier: ReadBarrier
    purge: Purge
