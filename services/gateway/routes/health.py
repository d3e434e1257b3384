"""Liveness of the gateway (`/healthz`) and readiness of all services (`/readyz`)."""

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel

from services.gateway.deps import Gateway, GatewayDep
from shared.contracts.health import health_query
from shared.errors import Unavailable

router = APIRouter(tags=["Health"])

_SERVICES = ("authz", "generation", "logging", "evaluation")


class Liveness(BaseModel):
    """The gateway process responds."""

    status: str = "ok"


class Readiness(BaseModel):
    """`status` is `ready` if every service is."""

    status: str
    services: dict[str, str]
    """By service: `ready`, `away` (no answer), or `misses` and the parts that do not work."""


@router.get("/healthz", summary="Is the gateway alive")
async def healthz() -> Liveness:
    """200 as long as the process responds, whatever the state of the other services."""
    return Liveness()


@router.get("/readyz", summary="Would a request succeed", responses={503: {"model": Readiness}})
async def readyz(gateway: GatewayDep, response: Response) -> Readiness:
    """200 if every service is ready, else 503; the body has the state of each."""
    states = dict(zip(_SERVICES, await asyncio.gather(*(_get_state(gateway, name) for name in _SERVICES)), strict=True))
    ready = all(state == "ready" for state in states.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "not ready", services=states)


async def _get_state(gateway: Gateway, service: str) -> str:
    try:
        health = await gateway.bus.request(health_query(service)(), timeout_seconds=3.0)
    except Unavailable:
        return "away"
    missing = [part for part, answers in health.parts.items() if not answers]
    return "ready" if health.ready else f"misses {', '.join(missing)}"
