"""What a principal may do at this moment, by the roles that are stored now."""

from typing import NamedTuple

from services.authz.organisations import Organisation
from shared.contracts.principal import Principal, Role
from shared.errors import Denied
from shared.permissions import ROLES, Permission, authorize


def lower(one: Role, other: Role) -> Role:
    """Return the role that may do less."""
    return max(one, other, key=ROLES.index)


class CurrentMember(NamedTuple):
    """The member behind a principal."""

    user_id: str
    role: Role
    """The one the principal has at this moment."""


def authorize_now(principal: Principal | None, organisation: Organisation, permission: Permission) -> CurrentMember:
    """Return who acts, with the role of this moment. Raises Denied if that role lacks the permission.

    The sender may have authenticated it half a minute ago; what changes access is decided on what is stored now.
    """
    if principal is None or principal.user_id is None or principal.role is None:
        raise Denied("Only a member of the organisation may do this.")
    stored = organisation.roles.get(principal.user_id)
    if stored is None or principal.organisation != organisation.id:
        raise Denied("You are not a member of this organisation.")
    role = lower(principal.role, stored)
    authorize(principal.model_copy(update={"role": role}), permission)
    return CurrentMember(principal.user_id, role)
