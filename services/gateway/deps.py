"""What routes ask for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from services.gateway.authentication import KEY_HEADER, Authenticator
from services.gateway.project_cache import ProjectCache
from services.gateway.requests.admission import LargeBodyBudget
from shared.appender import Appender
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.principal import Principal
from shared.encryption import SecretBox
from shared.permissions import Permission, authorize

_key_header = APIKeyHeader(name=KEY_HEADER, scheme_name="APIKeyHeader", auto_error=False)


@dataclass(frozen=True)
class Gateway:
    """What the gateway works with; made once in `main.py`."""

    bus: Bus
    authenticator: Authenticator
    project_cache: ProjectCache
    logs: Appender
    blobs: Blobs
    large_bodies: LargeBodyBudget
    secret_box: SecretBox


async def _gateway(request: Request) -> Gateway:
    # async although it waits for nothing: FastAPI gives a plain function to a thread, which costs more than all of it
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]


def require(permission: Permission) -> Callable[..., Awaitable[Principal]]:
    """The dependency every guarded route has: who is calling, and may they."""

    async def guard(
        request: Request, gateway: GatewayDep, key: Annotated[str | None, Depends(_key_header)]
    ) -> Principal:
        caller = await gateway.authenticator.authenticate(key)
        request.state.organisation = caller.organisation
        authorize(caller, permission)
        return caller

    guard.permission = permission  # type: ignore[attr-defined]  # read by the architecture test
    return guard
