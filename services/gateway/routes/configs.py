"""Routes of model configs: register, get, and export, serialize and deserialize `.prompt` files."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.paging import COUNT_TIMEOUT_SECONDS
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.config_responses import (
    ModelConfigResponse,
    ProjectConfigResponse,
    model_config_response,
    project_config_response,
    require_model_config,
)
from services.gateway.schemas.configs import ProjectModelConfigRequest, PromptConfigRequest, PromptFileRequest
from shared.contracts.generation.prompts import DeserializePrompt, SerializePrompt
from shared.contracts.logs import ConfigUse, GetConfigUse
from shared.contracts.permissions import EDIT_PROMPTS
from shared.contracts.principal import Principal
from shared.errors import Unavailable

router = APIRouter(tags=["Model configs"], route_class=BodyRoute)

_PROMPT_MEDIA_TYPE = "text/prompt"

CallerDep = Annotated[Principal, Depends(require(EDIT_PROMPTS))]


@router.post("/model-configs", summary="Register a config in a project")
async def register(body: ProjectModelConfigRequest, caller: CallerDep, gateway: GatewayDep) -> ProjectConfigResponse:
    """Equal parameters are one version. The first config of a project is deployed to the default environment."""
    resolved = await gateway.project_cache.resolve(
        caller,
        body.project_ref(),
        config=body.to_config(),
    )
    use = await _get_use(resolved.version.id, caller, gateway)
    (version,) = await gateway.project_cache.fill_linked_tools(caller.organisation, [resolved.version])
    return project_config_response(resolved.project, version, use)


async def _get_use(config_id: str, caller: Principal, gateway: Gateway) -> ConfigUse:
    """Return the use of a config; no logs if they cannot be counted now, because the config is registered anyway."""
    query = GetConfigUse(principal=caller, config_id=config_id)
    try:
        return await gateway.bus.request(query, timeout_seconds=COUNT_TIMEOUT_SECONDS)
    except Unavailable:
        return ConfigUse(logs=0)


@router.get("/model-configs/{id}", summary="Read a config")
async def get(id: str, caller: CallerDep, gateway: GatewayDep) -> ModelConfigResponse:  # noqa: A002
    """404 if the caller's organisation has no model config with this id."""
    return model_config_response(
        id, require_model_config(await gateway.project_cache.get_version(caller.organisation, id))
    )


@router.post(
    "/model-configs/{id}/export",
    response_model=str,
    responses={200: {"content": {_PROMPT_MEDIA_TYPE: {"schema": {"type": "string"}}}}},
    summary="Export a config as a .prompt file",
)
async def export(id: str, caller: CallerDep, gateway: GatewayDep, request: Request) -> Response:  # noqa: A002
    """Returns the file as a JSON string, or as it is if the request accepts `text/prompt` alone."""
    config = require_model_config(await gateway.project_cache.get_version(caller.organisation, id))
    file = await gateway.bus.request(SerializePrompt(config=config))
    accepted = {part.partition(";")[0].strip() for part in ",".join(request.headers.getlist("accept")).split(",")}
    if accepted == {_PROMPT_MEDIA_TYPE}:
        return Response(file.text, media_type=_PROMPT_MEDIA_TYPE)
    return JSONResponse(file.text)


@router.post("/model-configs/serialize", summary="Write a config as a .prompt file")
async def serialize(body: PromptConfigRequest, _: CallerDep, gateway: GatewayDep) -> str:
    """Nothing is stored."""
    return (await gateway.bus.request(SerializePrompt(config=body.to_config()))).text


@router.post("/model-configs/deserialize", summary="Read a .prompt file")
async def deserialize(body: PromptFileRequest, caller: CallerDep, gateway: GatewayDep) -> ModelConfigResponse:
    """Nothing is stored; the id is derived from the content. 422 names the line that cannot be read."""
    parsed = await gateway.bus.request(DeserializePrompt(principal=caller, text=body.config))
    return model_config_response(parsed.id, parsed.config)
