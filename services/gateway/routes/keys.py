"""API keys: made, listed, revoked. Not a part of the v4 contract, which left them to its web pages."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.gateway.body import CleanRoute
from services.gateway.deps import GatewayDep, require
from services.gateway.schemas.keys import (
    CreateKeyRequest,
    KeyResponse,
    NewKeyResponse,
    key_response,
    new_key_response,
)
from shared.contracts.access import CreateKey, ListKeys, RevokeKey
from shared.contracts.principal import Principal
from shared.permissions import MANAGE_KEYS

router = APIRouter(tags=["API keys"], route_class=CleanRoute)

CallerDep = Annotated[Principal, Depends(require(MANAGE_KEYS))]


@router.get("/keys", summary="List the API keys")
async def list_keys(caller: CallerDep, gateway: GatewayDep) -> list[KeyResponse]:
    """Newest first, revoked ones too; the keys themselves are not shown again."""
    answer = await gateway.bus.request(ListKeys(principal=caller))
    return [key_response(key) for key in answer.keys]


@router.post("/keys", status_code=201, summary="Make an API key")
async def create_key(body: CreateKeyRequest, caller: CallerDep, gateway: GatewayDep) -> NewKeyResponse:
    """The answer is the only place where the key is shown."""
    command = CreateKey(principal=caller, name=body.name, role=body.role)
    return new_key_response(await gateway.bus.request(command))


@router.delete("/keys/{id}", status_code=204, summary="Revoke an API key")
async def revoke_key(id: str, caller: CallerDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """From the next request on the key is refused."""
    await gateway.bus.request(RevokeKey(principal=caller, id=id))
    return Response(status_code=204)
