"""The collections of `logging`: logs and sessions."""

from services.logging.store.logs import LogStore
from services.logging.store.sessions import SessionStore

__all__ = ["LogStore", "SessionStore"]
