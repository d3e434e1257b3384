"""The table of permissions, with the roles and services that have each (behaviour.md §15.1), and the check.

A check needs no request to another service: the principal has its role.
"""

from typing import NamedTuple

from shared.contracts.principal import Principal, Role, Service
from shared.errors import Denied

ROLES: tuple[Role, ...] = ("Admin", "Developer", "Member")
_EVERYONE = frozenset(ROLES)
_BUILDERS = frozenset[Role]({"Admin", "Developer"})
_ADMINS = frozenset[Role]({"Admin"})


class Permission(NamedTuple):
    """A row of the table."""

    name: str
    action: str
    """What it allows, as it completes the sentence "You may …"."""
    roles: frozenset[Role]
    services: frozenset[Service] = frozenset()
    """Services that have it when they act for an organisation on nobody's request."""


_EVALUATION = frozenset[Service]({"evaluation"})

EDIT_PROMPTS = Permission("prompts.edit", "create, edit and call prompts, and log to them", _EVERYONE, _EVALUATION)
VIEW_LOGS = Permission("logs.view", "view logs and feedback", _EVERYONE, _EVALUATION)
EDIT_EVALUATORS = Permission("evaluators.edit", "create and edit evaluators", _EVERYONE)
RUN_EVALUATIONS = Permission("evaluations.run", "run evaluations", _EVERYONE)
EDIT_DATASETS = Permission("datasets.edit", "create and edit datasets", _EVERYONE)
MANAGE_KEYS = Permission("keys.manage", "create, see and revoke API keys", _BUILDERS)
CHANGE_DEPLOYMENTS = Permission("deployments.change", "change what is deployed", _BUILDERS)
MANAGE_ENVIRONMENTS = Permission("environments.manage", "create and manage environments", _BUILDERS)
SEND_INVITES = Permission("invites.send", "invite people", _ADMINS)
ASSIGN_ROLES = Permission("roles.assign", "change the roles of members", _ADMINS)
MANAGE_BILLING = Permission("billing.manage", "see usage, spend and limits", _ADMINS)
EDIT_ORGANISATION = Permission("organisation.edit", "change the settings of the organisation", _ADMINS)

PERMISSIONS: dict[str, Permission] = {
    permission.name: permission
    for permission in (
        EDIT_PROMPTS,
        VIEW_LOGS,
        EDIT_EVALUATORS,
        RUN_EVALUATIONS,
        EDIT_DATASETS,
        MANAGE_KEYS,
        CHANGE_DEPLOYMENTS,
        MANAGE_ENVIRONMENTS,
        SEND_INVITES,
        ASSIGN_ROLES,
        MANAGE_BILLING,
        EDIT_ORGANISATION,
    )
}


def allows(principal: Principal | None, permission: Permission) -> bool:
    """Return whether the principal has the permission; None, and one without a role or service, has none."""
    if principal is None:
        return False
    return principal.role in permission.roles or principal.service in permission.services


def authorize(principal: Principal | None, permission: Permission) -> None:
    """Raise Denied unless the principal has the permission; the message names the least role that has it."""
    if allows(principal, permission):
        return
    least = max(permission.roles, key=ROLES.index)
    who = f"Your role {principal.role}" if principal and principal.role else "Whoever has no role"
    raise Denied(f"{who} may not {permission.action}; ask an Admin for the role {least}.")
