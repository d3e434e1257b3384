"""FastAPI dependencies of the routes: the shared objects of the process, and the caller with a required permission."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from services.gateway.authentication.api_keys import KEY_HEADER
from services.gateway.authentication.authenticator import Authenticator
from services.gateway.project_cache import ProjectCache
from services.gateway.requests.admission import BodyRoom
from services.gateway.requests.rate_limits import RateLimits
from services.gateway.requests.reads import Reads
from services.gateway.server.client_address import TrustedProxies
from shared.appender import Appender
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.permissions import Permission
from shared.contracts.principal import Principal
from shared.encryption import SecretBox
from shared.fair_order import FairOrder
from shared.permissions import authorize, check_not_limited

_key_header = APIKeyHeader(name=KEY_HEADER, scheme_name="APIKeyHeader", auto_error=False)
"""For the OpenAPI document; the authenticator reads the key."""


@dataclass(frozen=True)
class Gateway:
    """The objects all requests share; created once in `main.py`, stored as `app.state.gateway`."""

    bus: Bus
    authenticator: Authenticator
    project_cache: ProjectCache
    logs: Appender
    blobs: Blobs
    body_room: BodyRoom
    fair_order: FairOrder
    reads: Reads
    rate_limits: RateLimits
    secret_box: SecretBox
    trusted_proxies: TrustedProxies


async def _get_gateway(request: Request) -> Gateway:
    # async although it awaits nothing: FastAPI runs a plain function in a thread, which costs far more than this
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_get_gateway)]


def require(permission: Permission, *, limited: bool = False) -> Callable[..., Awaitable[Principal]]:
    """Return a FastAPI dependency that authenticates the request and authorizes its principal for `permission`.

    It returns the principal, with the address that the request came from. Raises Unauthenticated without a valid API
    key, Denied if the role lacks the permission, or if the key is limited to projects and the route is
    not: `limited` says that the services it asks answer such a key from its projects alone.
    """

    async def authorize_caller(
        request: Request, gateway: GatewayDep, _key: Annotated[str | None, Depends(_key_header)]
    ) -> Principal:
        caller = await gateway.authenticator.authenticate_request(request)
        authorize(caller, permission)
        if not limited:
            check_not_limited(caller)
        return caller.model_copy(update={"address": gateway.trusted_proxies.client_address(request)})

    authorize_caller.limited = limited  # type: ignore[attr-defined]  # as the next
    authorize_caller.permission = permission  # type: ignore[attr-defined]  # read by the architecture test
    return authorize_caller
