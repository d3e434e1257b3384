"""What handlers work with."""

from dataclasses import dataclass

from services.logging.purge import Removal
from services.logging.read_barrier import Position
from services.logging.store import DeletionStore, LogStore, SessionStore
from shared.bus import Bus


@dataclass(frozen=True)
class Deps:
    """Made once, in `main.py`."""

    bus: Bus
    logs: LogStore
    sessions: SessionStore
    deletions: DeletionStore
    position: Position
    removal: Removal
