"""Messages and values of `authz`: a person's own account and passwords, and people as the operator sees them."""

from typing import ClassVar

from pydantic import Field

from shared.contracts.access.sessions import Browser, SignedIn
from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Command, Done, Query, SystemCommand, SystemQuery
from shared.contracts.permissions import BE_MEMBER, Permission
from shared.contracts.principal import Role
from shared.contracts.value import Value


class Membership(Value):
    """An organisation that a person is a member of."""

    organisation: str
    name: str
    slug: str
    role: Role


class Account(Value):
    """A person."""

    user_id: str
    email: str
    full_name: str | None = None
    has_password: bool = True
    """False: they sign in elsewhere (OIDC)."""
    memberships: list[Membership]
    """By name."""


class GetAccount(Query[Account]):
    """Return the person behind the principal. Raises NotFound if they have gone."""

    subject: ClassVar[str] = "authz.get_account"
    permission: ClassVar[Permission | None] = BE_MEMBER


class ChangeName(Command[Done]):
    """Change the signed-in person's full name. Raises Invalid."""

    subject: ClassVar[str] = "authz.change_name"
    permission: ClassVar[Permission | None] = BE_MEMBER
    not_audited: ClassVar[str] = "a name gives nothing, and people change only their own"

    full_name: str


class ChangePassword(Command[SignedIn]):
    """Change the signed-in person's password: all their sessions end, and a new one begins.

    Raises Invalid (current password wrong, new one too weak), RateLimited (too many failures).
    """

    subject: ClassVar[str] = "authz.change_password"
    permission: ClassVar[Permission | None] = BE_MEMBER
    audited_as: ClassVar[tuple[AuditAction, ...]] = (
        "password.changed",
        "session.opened",
        "session.revoked",
    )

    current_password: str = Field(repr=False)
    new_password: str = Field(repr=False)
    browser: Browser


class RequestPasswordReset(SystemCommand[Done]):
    """Send a link to reset the password, if there is a person with this address. The answer is always the same.

    Raises Unavailable if no mail server is configured, RateLimited.
    """

    subject: ClassVar[str] = "authz.request_password_reset"

    email: str
    browser: Browser


class ResetPassword(SystemCommand[Done]):
    """Set a new password by the token of a link, which is used up; all sessions of the person end.

    Raises Invalid (token unknown, used or expired; password too weak), RateLimited.
    """

    subject: ClassVar[str] = "authz.reset_password"

    token: str = Field(repr=False)
    new_password: str = Field(repr=False)
    browser: Browser


class People(Value):
    """People of all organisations, by email address."""

    people: list[Account]


class ListPeople(SystemQuery[People]):
    """Return everybody. Only the operator may send it."""

    subject: ClassVar[str] = "authz.list_people"


class NewPassword(Value):
    """A password that was set for a person."""

    password: str = Field(repr=False)


class AddPerson(SystemCommand[NewPassword]):
    """Create a person, or find the one with this address, and make them a member. Only the operator may send it.

    Raises Conflict (a member already), NotFound (no such organisation), Invalid (address; several organisations and
    none named; password too weak).
    """

    subject: ClassVar[str] = "authz.add_person"

    email: str
    full_name: str | None = None
    role: Role
    organisation: str | None = None
    """Id or slug; None: the only one."""
    password: str | None = Field(None, repr=False)
    """None: one is generated. Somebody who exists already keeps theirs."""


class SetPassword(SystemCommand[NewPassword]):
    """Set a person's password, end their sessions and forget failed sign-ins. Only the operator may send it.

    Raises NotFound, Invalid (too weak).
    """

    subject: ClassVar[str] = "authz.set_password"

    email: str
    password: str | None = Field(None, repr=False)
    """None: one is generated."""
