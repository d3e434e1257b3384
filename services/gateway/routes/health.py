"""Whether the process lives, and whether a request would succeed."""

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel

from services.gateway.deps import Gateway, GatewayDep
from shared.contracts.health import health_query
from shared.errors import Unavailable

router = APIRouter(tags=["Health"])

_SERVICES = ("authz", "generation", "logging", "evaluation")


class Alive(BaseModel):
    """The gateway answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """`ready` when every service is."""

    status: str
    services: dict[str, str]
    """`ready`, `away`, or what the service misses."""


@router.get("/healthz", summary="Is the gateway alive")
async def healthz() -> Alive:
    """200 as long as the process answers, whatever its peers do."""
    return Alive()


@router.get("/readyz", summary="Would a request succeed", responses={503: {"model": Readiness}})
async def readyz(gateway: GatewayDep, response: Response) -> Readiness:
    """200 when every service has what it needs, else 503; the body says which does not."""
    states = dict(zip(_SERVICES, await asyncio.gather(*(_state(gateway, name) for name in _SERVICES)), strict=True))
    ready = all(state == "ready" for state in states.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "not ready", services=states)


async def _state(gateway: Gateway, service: str) -> str:
    try:
        health = await gateway.bus.request(health_query(service)(), timeout_seconds=3.0)
    except Unavailable:
        return "away"
    missing = [part for part, answers in health.parts.items() if not answers]
    return "ready" if health.ready else f"misses {', '.join(missing)}"
