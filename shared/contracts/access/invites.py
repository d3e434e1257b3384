"""Messages and values of `authz`: invites to an organisation."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from shared import ids
from shared.contracts.access.sessions import Browser, SignedIn
from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Command, Done, Query, SystemCommand, SystemQuery
from shared.contracts.permissions import SEND_INVITES, Permission
from shared.contracts.principal import Role
from shared.contracts.value import Value


class Invite(Value):
    """An invite that was neither accepted nor revoked."""

    id: str
    email: str
    role: Role
    invited_by: str
    """Email address."""
    created_at: datetime
    expires_at: datetime


class NewInvite(Value):
    """The answer to who invites: the only message with the link."""

    invite: Invite
    link: str = Field(repr=False)
    """Where the invite is accepted; it begins with `/` if the public address is not configured."""
    mailed: bool
    """Whether the mail server has taken the link. False: hand it over yourself."""


class SendInvite(Command[NewInvite]):
    """Invite somebody; an open invite of the same address is replaced, its link is void.

    Raises Invalid (address), Conflict (a member already).
    """

    subject: ClassVar[str] = "authz.send_invite"
    permission: ClassVar[Permission | None] = SEND_INVITES
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("invite.created",)

    id: str = Field(default_factory=lambda: ids.mint("inv"))
    email: str
    role: Role = "Member"


class ResendInvite(Command[NewInvite]):
    """Replace the link of an open invite by a new one, valid for another 7 days. Raises NotFound."""

    subject: ClassVar[str] = "authz.resend_invite"
    permission: ClassVar[Permission | None] = SEND_INVITES
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("invite.sent",)

    id: str


class RevokeInvite(Command[Done]):
    """Revoke an open invite. Raises NotFound."""

    subject: ClassVar[str] = "authz.revoke_invite"
    permission: ClassVar[Permission | None] = SEND_INVITES
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("invite.revoked",)

    id: str


class Invites(Value):
    """Open invites, newest first, expired ones included."""

    invites: list[Invite]


class ListInvites(Query[Invites]):
    """Return the organisation's open invites."""

    subject: ClassVar[str] = "authz.list_invites"
    permission: ClassVar[Permission | None] = SEND_INVITES


class InvitePreview(Value):
    """What somebody with the link of an invite is told."""

    email: str
    role: Role
    organisation_name: str
    invited_by: str
    expires_at: datetime
    has_account: bool
    """Whether there is a person with this address, who has to prove it by their password."""


class PreviewInvite(SystemQuery[InvitePreview]):
    """Return what an invite offers. Raises NotFound if the token is unknown, used, revoked or expired."""

    subject: ClassVar[str] = "authz.preview_invite"

    token: str = Field(repr=False)


class AcceptInvite(SystemCommand[SignedIn]):
    """Become a member by an invite, which is used up, and begin a session in the organisation.

    A person with the invite's address proves it by a session of theirs or their password; for anybody else one is
    created with the password. Raises NotFound (as `PreviewInvite`), Unauthenticated (wrong password), Invalid (password
    too weak), RateLimited.
    """

    subject: ClassVar[str] = "authz.accept_invite"

    token: str = Field(repr=False)
    full_name: str | None = None
    password: str | None = Field(None, repr=False)
    session_hash: str | None = None
    """sha256 of the secret of the sender's session, hex, if they are signed in."""
    browser: Browser


class RequestInvite(SystemCommand[Done]):
    """Send an invite to an address whose domain an organisation trusts. The answer is always the same.

    Raises Unavailable if no mail server is configured, RateLimited.
    """

    subject: ClassVar[str] = "authz.request_invite"

    email: str
    browser: Browser
