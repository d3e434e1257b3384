"""The collections of the logging service: `logs`, `sessions` and `deletions` (of projects)."""

from services.logging.store.deletions import DeletionStore
from services.logging.store.logs import LogStore
from services.logging.store.sessions import SessionStore

__all__ = ["DeletionStore", "LogStore", "SessionStore"]
