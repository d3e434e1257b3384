"""Model configs: registered in a project, read by id."""

from typing import Annotated

from fastapi import APIRouter, Depends

from services.gateway.body import CleanRoute
from services.gateway.deps import GatewayDep, require
from services.gateway.schemas.configs import (
    ModelConfigResponse,
    ProjectConfigResponse,
    ProjectModelConfigRequest,
    model_response,
    registered_response,
)
from shared.contracts.access import Caller
from shared.contracts.logs import GetConfigUse
from shared.permissions import EDIT_PROMPTS

router = APIRouter(tags=["Model configs"], route_class=CleanRoute)

CallerDep = Annotated[Caller, Depends(require(EDIT_PROMPTS))]


@router.post("/model-configs", summary="Register a config in a project")
async def register(body: ProjectModelConfigRequest, caller: CallerDep, gateway: GatewayDep) -> ProjectConfigResponse:
    """The same parameters again are the same version. A project's first one is deployed at once."""
    resolved = await gateway.catalogue.resolve(
        caller,
        body.project_ref(),
        config=body.config(),
        may_deploy=await gateway.may_deploy(caller),
    )
    use = await gateway.bus.ask(GetConfigUse(organisation=caller.organisation, config_id=resolved.version.id))
    return registered_response(resolved.project, resolved.version, use)


@router.get("/model-configs/{id}", summary="Read a config")
async def get(id: str, caller: CallerDep, gateway: GatewayDep) -> ModelConfigResponse:  # noqa: A002
    """404 when the caller's organisation has no model config with this id."""
    return model_response(await gateway.catalogue.version(caller.organisation, id))
