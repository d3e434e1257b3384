"""Routes of redirects and provider keys. The v4 contract has none of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.routing import ProviderKeyRequest, ProviderKeyResponse, RedirectRequest
from shared.contracts.generation.credentials import DeleteProviderKey, ListProviderKeys, SetProviderKey
from shared.contracts.generation.projects import Provider
from shared.contracts.generation.routing import DeleteRedirect, ListRedirects, Redirect, Target
from shared.contracts.permissions import CHANGE_DEPLOYMENTS, EDIT_PROMPTS, MANAGE_KEYS
from shared.contracts.principal import Principal

router = APIRouter(tags=["Providers"], route_class=BodyRoute)

RedirectEditorDep = Annotated[Principal, Depends(require(CHANGE_DEPLOYMENTS))]
KeyManagerDep = Annotated[Principal, Depends(require(MANAGE_KEYS))]
Model = Annotated[str, Query(min_length=1, max_length=200)]
KeyName = Annotated[str, Path(max_length=60)]


@router.get("/redirects", summary="List the redirects of models")
async def list_redirects(
    caller: Annotated[Principal, Depends(require(EDIT_PROMPTS))], gateway: GatewayDep
) -> list[Redirect]:
    """Ordered by provider and model."""
    return (await gateway.bus.request(ListRedirects(principal=caller))).redirects


@router.put("/redirects", summary="Let another model answer, or others when it fails")
async def set_redirect(body: RedirectRequest, caller: RedirectEditorDep, gateway: GatewayDep) -> Redirect:
    """In effect from the next call on. Configs stay unchanged; logs have the requested and the serving model."""
    return await gateway.bus.request(body.command(caller))


@router.delete("/redirects", status_code=204, summary="Let a model answer for itself again")
async def delete_redirect(
    caller: RedirectEditorDep,
    gateway: GatewayDep,
    model: Model,
    provider: Provider = "openai",
) -> Response:
    """In effect from the next call on. 404 if the model has no redirect."""
    target = Target(provider=provider, model=model)
    await gateway.bus.request(DeleteRedirect(principal=caller, asked=target))
    return Response(status_code=204)


@router.get("/provider-keys", summary="List the provider keys the organisation keeps")
async def list_provider_keys(caller: KeyManagerDep, gateway: GatewayDep) -> list[ProviderKeyResponse]:
    """Ordered by name; the keys themselves are not shown again."""
    keys = (await gateway.bus.request(ListProviderKeys(principal=caller))).keys
    return [ProviderKeyResponse(**key.model_dump()) for key in keys]


@router.put("/provider-keys/{name}", summary="Keep a provider key")
async def set_provider_key(
    name: KeyName, body: ProviderKeyRequest, caller: KeyManagerDep, gateway: GatewayDep
) -> ProviderKeyResponse:
    """Used from the next call on by calls without a key of their own; takes precedence over the installation's key."""
    encrypted_key = gateway.secret_box.encrypt({"key": body.key})
    command = SetProviderKey(principal=caller, name=name, sealed=encrypted_key)
    return ProviderKeyResponse(**(await gateway.bus.request(command)).model_dump())


@router.delete("/provider-keys/{name}", status_code=204, summary="Forget a provider key")
async def delete_provider_key(name: KeyName, caller: KeyManagerDep, gateway: GatewayDep) -> Response:
    """404 if there is no such key."""
    await gateway.bus.request(DeleteProviderKey(principal=caller, name=name))
    return Response(status_code=204)
