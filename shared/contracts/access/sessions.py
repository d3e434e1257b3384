"""Messages and values of `authz`: sign-in with a password, and browser sessions."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Command, Done, Query, SystemCommand
from shared.contracts.permissions import BE_MEMBER, Permission
from shared.contracts.principal import Principal
from shared.contracts.value import Value


class Browser(Value):
    """Where a session was begun from, for its owner to recognise it by."""

    address: str = Field("", max_length=64)
    """IP address of the caller."""
    user_agent: str = Field("", max_length=300)
    """Header `User-Agent`, cut."""


class SignedIn(Value):
    """A new browser session: the only message with its secret."""

    secret: str = Field(repr=False)
    """Goes into the cookie."""
    expires_at: datetime
    """At the latest; it ends sooner if it is not used."""
    principal: Principal


class SignIn(SystemCommand[SignedIn]):
    """Begin a session with email address and password.

    Raises Unauthenticated (whatever of it is wrong, with one message and in the same time), RateLimited (too many
    failures), Denied (no member of any organisation).
    """

    subject: ClassVar[str] = "authz.sign_in"

    email: str
    password: str = Field(repr=False)
    organisation: str | None = None
    """Which of the person's organisations to act in. None, or not theirs: the one last signed in to, or any."""
    browser: Browser


class SignOut(SystemCommand[Done]):
    """End a session. One that is unknown, or has ended, is no error."""

    subject: ClassVar[str] = "authz.sign_out"

    session_hash: str
    browser: Browser


class SignOutEverywhere(Command[Done]):
    """End all sessions of the signed-in person, in every organisation."""

    subject: ClassVar[str] = "authz.sign_out_everywhere"
    permission: ClassVar[Permission | None] = BE_MEMBER
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("session.revoked",)


class Session(Value):
    """A browser session, without its secret."""

    id: str
    organisation: str
    created_at: datetime
    last_used_at: datetime
    """To half a minute."""
    expires_at: datetime
    browser: Browser


class Sessions(Value):
    """Sessions, the last used first."""

    sessions: list[Session]


class ListSessions(Query[Sessions]):
    """Return the signed-in person's sessions that have not ended."""

    subject: ClassVar[str] = "authz.list_sessions"
    permission: ClassVar[Permission | None] = BE_MEMBER


class EndSession(Command[Done]):
    """End one of the signed-in person's sessions. Raises NotFound."""

    subject: ClassVar[str] = "authz.end_session"
    permission: ClassVar[Permission | None] = BE_MEMBER
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("session.revoked",)

    id: str


class SwitchOrganisation(Command[SignedIn]):
    """Act in another organisation of the signed-in person: their session is replaced by a new one.

    Raises NotFound if they are no member of it.
    """

    subject: ClassVar[str] = "authz.switch_organisation"
    permission: ClassVar[Permission | None] = BE_MEMBER
    audited_as: ClassVar[tuple[AuditAction, ...]] = (
        "session.opened",
        "session.revoked",
    )

    to: str
    """Id of the organisation."""
    browser: Browser
