"""Invites: what is stored of them, and how long their links work."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.contracts.principal import Role

PREFIX = "hli_"
"""Of a token."""
LIFETIME = timedelta(days=7)


@dataclass(frozen=True)
class StoredInvite:
    """An invite as stored, without its token."""

    id: str
    organisation: str
    email: str
    role: Role
    hash: str
    """sha256 of the token, hex."""
    invited_by: str
    """Email address; empty if its person asked for it, since the organisation trusts the domain."""
    created_at: datetime
    expires_at: datetime
