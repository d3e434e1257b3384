"""Routes of API keys: list, create, revoke. The v4 contract has none of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.access.keys import (
    CreateKeyRequest,
    KeyResponse,
    NewKeyResponse,
    key_response,
    new_key_response,
)
from shared.contracts.access.keys import ListKeys, RevokeKey
from shared.contracts.permissions import MANAGE_KEYS
from shared.contracts.principal import Principal

router = APIRouter(tags=["API keys"], route_class=BodyRoute)

CallerDep = Annotated[Principal, Depends(require(MANAGE_KEYS))]


@router.get("/keys", summary="List the API keys")
async def list_keys(caller: CallerDep, gateway: GatewayDep) -> list[KeyResponse]:
    """Newest first, revoked and expired ones included; the secrets are not shown again."""
    keys = (await gateway.bus.request(ListKeys(principal=caller))).keys
    return [key_response(key) for key in keys]


@router.post("/keys", status_code=201, summary="Make an API key")
async def create_key(body: CreateKeyRequest, caller: CallerDep, gateway: GatewayDep) -> NewKeyResponse:
    """Only this response contains the key. 404 if a project of `project_ids` is not in the organisation."""
    for project_id in body.project_ids or ():  # authz knows no projects
        await gateway.project_cache.get_project(caller.organisation, project_id)
    return new_key_response(await gateway.bus.request(body.command(caller)))


@router.delete("/keys/{id}", status_code=204, summary="Revoke an API key")
async def revoke_key(id: str, caller: CallerDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """The key is refused from the next request on."""
    await gateway.bus.request(RevokeKey(principal=caller, id=id))
    return Response(status_code=204)
