"""Authorizes changes of access: by the roles stored now, not by those the gateway cached; by who is signed in."""

from typing import NamedTuple

from services.authz.membership.organisations import Organisation
from shared.contracts.permissions import ROLES, Permission
from shared.contracts.principal import Principal, Role
from shared.errors import Denied
from shared.permissions import authorize


def lower_role(one: Role, other: Role) -> Role:
    """Return the role that may do less."""
    return max(one, other, key=ROLES.index)


class CurrentMember(NamedTuple):
    """The member behind a principal, with the role in effect."""

    user_id: str
    role: Role
    """The lower of the principal's role (its key's) and the member's stored role."""


class SignedInPerson(NamedTuple):
    """The person behind a browser session."""

    user_id: str
    session_id: str


def require_signed_in(principal: Principal | None) -> SignedInPerson:
    """Return the person who acts. Raises Denied for an API key: who has one does not have its creator's account."""
    if principal is None or principal.user_id is None or principal.session_id is None:
        raise Denied("Sign in for this: an API key is not enough.")
    return SignedInPerson(principal.user_id, principal.session_id)


def authorize_now(principal: Principal | None, organisation: Organisation, permission: Permission) -> CurrentMember:
    """Return the member who acts, with the role in effect now.

    Raises Denied if that role lacks the permission, or the principal is no member of the organisation. The principal in
    a command may have been cached for half a minute, so its role is compared with the stored one.
    """
    if principal is None or principal.user_id is None or principal.role is None:
        raise Denied("Only a member of the organisation may do this.")
    stored = organisation.roles.get(principal.user_id)
    if stored is None or principal.organisation != organisation.id:
        raise Denied("You are not a member of this organisation.")
    role = lower_role(principal.role, stored)
    authorize(principal.model_copy(update={"role": role}), permission)
    return CurrentMember(principal.user_id, role)
