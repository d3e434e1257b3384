"""Who answers for a model, and with whose key. Not a part of the v4 contract, which left both to its web pages."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.routing import ProviderKeyRequest, ProviderKeyResponse, RedirectRequest
from shared.contracts.generation.credentials import DeleteProviderKey, ListProviderKeys, SetProviderKey
from shared.contracts.generation.projects import Provider
from shared.contracts.generation.routing import DeleteRedirect, ListRedirects, Redirect, Target
from shared.contracts.principal import Principal
from shared.permissions import CHANGE_DEPLOYMENTS, EDIT_PROMPTS, MANAGE_KEYS

router = APIRouter(tags=["Providers"], route_class=BodyRoute)

RouterDep = Annotated[Principal, Depends(require(CHANGE_DEPLOYMENTS))]
KeeperDep = Annotated[Principal, Depends(require(MANAGE_KEYS))]
Model = Annotated[str, Query(min_length=1, max_length=200)]
KeyName = Annotated[str, Path(max_length=60)]


@router.get("/redirects", summary="List the redirects of models")
async def list_redirects(
    caller: Annotated[Principal, Depends(require(EDIT_PROMPTS))], gateway: GatewayDep
) -> list[Redirect]:
    """By provider and model."""
    return (await gateway.bus.request(ListRedirects(principal=caller))).redirects


@router.put("/redirects", summary="Let another model answer, or others when it fails")
async def set_redirect(body: RedirectRequest, caller: RouterDep, gateway: GatewayDep) -> Redirect:
    """From the next call on. Configs and their versions stay as they are; logs say who was asked and who served."""
    return await gateway.bus.request(body.command(caller))


@router.delete("/redirects", status_code=204, summary="Let a model answer for itself again")
async def delete_redirect(
    caller: RouterDep,
    gateway: GatewayDep,
    model: Model,
    provider: Provider = "openai",
) -> Response:
    """From the next call on. 404 when it has no redirect."""
    asked = Target(provider=provider, model=model)
    await gateway.bus.request(DeleteRedirect(principal=caller, asked=asked))
    return Response(status_code=204)


@router.get("/provider-keys", summary="List the provider keys the organisation keeps")
async def list_provider_keys(caller: KeeperDep, gateway: GatewayDep) -> list[ProviderKeyResponse]:
    """By name; the keys themselves are not shown again."""
    answer = await gateway.bus.request(ListProviderKeys(principal=caller))
    return [ProviderKeyResponse(**key.model_dump()) for key in answer.keys]


@router.put("/provider-keys/{name}", summary="Keep a provider key")
async def set_provider_key(
    name: KeyName, body: ProviderKeyRequest, caller: KeeperDep, gateway: GatewayDep
) -> ProviderKeyResponse:
    """Used, from the next call on, where a call brings no key of its own; goes before the installation's."""
    sealed = gateway.secret_box.encrypt({"key": body.key})
    command = SetProviderKey(principal=caller, name=name, sealed=sealed)
    return ProviderKeyResponse(**(await gateway.bus.request(command)).model_dump())


@router.delete("/provider-keys/{name}", status_code=204, summary="Forget a provider key")
async def delete_provider_key(name: KeyName, caller: KeeperDep, gateway: GatewayDep) -> Response:
    """404 when there is none."""
    await gateway.bus.request(DeleteProviderKey(principal=caller, name=name))
    return Response(status_code=204)
