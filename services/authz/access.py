"""Who may do what: the one comparison of roles, and the sentence for those who may not."""

from services.authz.organisations import Organisation
from shared.contracts.access import Caller, Decision, Role
from shared.errors import Denied, Invalid
from shared.permissions import PERMISSIONS, ROLES, Permission


def lower(one: Role, other: Role) -> Role:
    """The role that may do less."""
    return max(one, other, key=ROLES.index)


def decide(caller: Caller, permission: str) -> Decision:
    """Whether the caller's role has the permission. Invalid when there is no such permission."""
    row = PERMISSIONS.get(permission)
    if row is None:
        raise Invalid(f"There is no permission {permission!r}. There are: {', '.join(sorted(PERMISSIONS))}.")
    if caller.role in row.roles:
        return Decision(allowed=True, reason="")
    least = max(row.roles, key=ROLES.index)
    return Decision(
        allowed=False,
        reason=f"Your role {caller.role} may not {row.lets}; ask an Admin for the role {least}.",
    )


def admit(by: Caller, organisation: Organisation, permission: Permission) -> Caller:
    """`by` with the role it has at this moment, if that role has the permission. Denied otherwise.

    The sender may have identified the caller half a minute ago; what changes access is decided on what is stored now.
    """
    role = organisation.roles.get(by.user_id)
    if role is None or by.organisation != organisation.id:
        raise Denied("You are not a member of this organisation.")
    now = by.model_copy(update={"role": lower(by.role, role)})
    decision = decide(now, permission.name)
    if not decision.allowed:
        raise Denied(decision.reason)
    return now
