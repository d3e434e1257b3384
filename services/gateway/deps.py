"""What routes ask for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from services.gateway.authentication import Authenticator
from services.gateway.limits import LargeBodies
from services.gateway.project_cache import ProjectCache
from shared.appender import Appender
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.access import Caller
from shared.encryption import SecretBox
from shared.errors import Denied
from shared.permissions import CHANGE_DEPLOYMENTS, Permission

KEY_HEADER = "X-API-KEY"
_key_header = APIKeyHeader(name=KEY_HEADER, scheme_name="APIKeyHeader", auto_error=False)


@dataclass(frozen=True)
class Gateway:
    """What the gateway works with; made once in `main.py`."""

    bus: Bus
    authenticator: Authenticator
    project_cache: ProjectCache
    logs: Appender
    blobs: Blobs
    large_bodies: LargeBodies
    secret_box: SecretBox

    async def authorize(self, caller: Caller, permission: Permission) -> None:
        """For what only some requests of a route need. Errors: Denied."""
        decision = await self.authenticator.may(caller, permission)
        if not decision.allowed:
            raise Denied(decision.reason)

    async def may_deploy(self, caller: Caller) -> bool:
        """Whether what is deployed may change along with something else that this caller does."""
        return (await self.authenticator.may(caller, CHANGE_DEPLOYMENTS)).allowed


async def _gateway(request: Request) -> Gateway:
    # async although it waits for nothing: FastAPI gives a plain function to a thread, which costs more than all of it
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]


def require(permission: Permission) -> Callable[..., Awaitable[Caller]]:
    """The dependency every guarded route has: who is calling, and may they."""

    async def guard(request: Request, gateway: GatewayDep, key: Annotated[str | None, Depends(_key_header)]) -> Caller:
        caller = await gateway.authenticator.authenticate(key)
        request.state.organisation = caller.organisation
        await gateway.authorize(caller, permission)
        return caller

    guard.permission = permission  # type: ignore[attr-defined]  # read by the architecture test
    return guard
