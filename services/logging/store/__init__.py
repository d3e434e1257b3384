"""The collections of the logging service: `logs`, `sessions`, `deletions` (of projects), `unused_blobs` and
`pending_ancestors`.
"""

from services.logging.store.deletions import Deletion, DeletionStore
from services.logging.store.log_deletions import LogDeletionStore
from services.logging.store.logs import LogStore
from services.logging.store.sessions import SessionStore
from services.logging.store.unresolved_logs import UnresolvedLog, UnresolvedLogStore
from services.logging.store.unused_blobs import UnusedBlob, UnusedBlobStore

__all__ = [
    "Deletion",
    "DeletionStore",
    "LogDeletionStore",
    "LogStore",
    "SessionStore",
    "UnresolvedLog",
    "UnresolvedLogStore",
    "UnusedBlob",
    "UnusedBlobStore",
]
