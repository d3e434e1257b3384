"""Messages of `authz`: who is calling, and that this may have changed."""

from typing import ClassVar

from shared.contracts.message import Event, SystemQuery
from shared.contracts.principal import Principal


class Authenticate(SystemQuery[Principal]):
    """Return the principal of an API key. Raises Unauthenticated if the key is unknown or revoked."""

    subject: ClassVar[str] = "authz.authenticate"

    key_hash: str
    """sha256 of the key, hex: the key itself stays in the gateway."""


class AuthenticateSession(SystemQuery[Principal]):
    """Return the signed-in member of a browser session. Raises Unauthenticated if it is unknown, ended or expired."""

    subject: ClassVar[str] = "authz.authenticate_session"

    session_hash: str
    """sha256 of the session's secret, hex."""


class AccessChanged(Event):
    """A key, a session, a role or a membership changed: cached principals of the organisation are void."""

    noun: ClassVar[str] = "access"
    past_participle: ClassVar[str] = "changed"

    what: str
    """`key created`, `key revoked`, `role changed`, `member joined`, `member removed`, `session ended`, `organisation
    changed`. More may be added: whatever it is, the same is void."""
