"""Browser sessions: what is stored of them, and how long they last."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.contracts.access.sessions import Browser

PREFIX = "hls_"
"""Of a session's secret."""


@dataclass(frozen=True)
class StoredSession:
    """A session as stored, without its secret."""

    id: str
    hash: str
    """sha256 of the secret, hex."""
    user_id: str
    organisation: str
    """That its person acts in."""
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    browser: Browser

    def ends_at(self, idle: timedelta) -> datetime:
        """Return when it ends if it is not used again, where one ends after being unused for `idle`."""
        return min(self.expires_at, self.last_used_at + idle)
