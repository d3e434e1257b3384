"""The collections of `logging`: logs, sessions, and which projects are gone."""

from services.logging.store.deletions import DeletionStore
from services.logging.store.logs import LogStore
from services.logging.store.sessions import SessionStore

__all__ = ["DeletionStore", "LogStore", "SessionStore"]
