"""Refuses requests whose principal may not send them, in the service that answers, whatever the gateway has checked."""

from typing import Any

from shared.contracts.message import Command, Query, Request
from shared.errors import Denied
from shared.permissions import authorize, check_not_limited, check_project


def authorize_request(request: Request[Any]) -> None:
    """Raise Denied unless the principal has the permission that the message's class names, or is one of its services.

    A `SystemQuery` belongs to no organisation and needs none.
    """
    if not isinstance(request, Query | Command):
        return
    principal, name = request.principal, type(request).__name__
    if principal is not None and principal.kind == "service":
        if principal.service not in request.services or principal.role is not None:
            raise Denied(f"The service {principal.service} may not send {name} on its own account.")
        return
    if request.permission is None:
        raise Denied(f"Only a service may send {name}.")
    authorize(principal, request.permission)
    _check_projects(request)


def _check_projects(request: Query[Any] | Command[Any]) -> None:
    """Raise Denied if the principal's key is limited to projects and the class does not say how such a key is answered,
    NotFound if the request names a project that is not among them.
    """
    if request.principal is None or request.principal.projects is None:
        return
    if request.limited is None:
        check_not_limited(request.principal)
    elif request.limited:
        named: str | list[str] = getattr(request, request.limited)
        for project_id in [named] if isinstance(named, str) else named:
            check_project(request.principal, project_id)
