"""Refuses requests whose principal may not send them, in the service that answers, whatever the gateway has checked."""

from typing import Any

from shared.contracts.message import Command, Query, Request
from shared.errors import Denied
from shared.permissions import authorize


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
