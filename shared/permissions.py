"""Checks a principal against the table of permissions (`shared/contracts/permissions.py`).

A check needs no request to another service: the principal has its role. It is made twice: at the gateway by the route's
`require`, and by the service that answers, before its handler runs (`shared/bus/authorization.py`).
"""

from datetime import UTC, datetime

from shared.contracts.permissions import ROLES, Permission
from shared.contracts.principal import Principal
from shared.errors import Denied, NotFound, Unauthenticated


def check_valid_now(principal: Principal) -> None:
    """Raise Unauthenticated if the principal's key or session has expired, which whoever remembers one must check."""
    if principal.valid_until is not None and principal.valid_until <= datetime.now(UTC):
        if principal.session_id is not None:
            raise Unauthenticated("Your session has expired. Sign in again.")
        raise Unauthenticated("The API key has expired. Make a new one, or ask a Developer or an Admin for it.")


def allows(principal: Principal | None, permission: Permission) -> bool:
    """Return whether the principal has the permission; None, and one without a role, has none."""
    return principal is not None and principal.role in permission.roles


def authorize(principal: Principal | None, permission: Permission) -> None:
    """Raise Denied unless the principal has the permission; the message names the least role that has it."""
    if allows(principal, permission):
        return
    least = max(permission.roles, key=ROLES.index)
    who = f"Your role {principal.role}" if principal and principal.role else "Whoever has no role"
    raise Denied(f"{who} may not {permission.action}; ask an Admin for the role {least}.")


LIMITED = "This key is limited to projects, and may not do this."


def has_project(principal: Principal | None, project_id: str | None) -> bool:
    """Return whether the principal's key is not limited to projects, or this project is among them."""
    return principal is None or principal.projects is None or project_id in principal.projects


def check_project(principal: Principal | None, project_id: str) -> None:
    """Raise NotFound, as if there were no such project, if the principal's key is limited to others."""
    if not has_project(principal, project_id):
        raise NotFound(f"There is no project {project_id!r}.")


def check_not_limited(principal: Principal | None) -> None:
    """Raise Denied if the principal's key is limited to projects."""
    if principal is not None and principal.projects is not None:
        raise Denied(LIMITED)
