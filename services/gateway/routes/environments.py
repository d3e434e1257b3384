"""Routes of environments: list, create, update, delete. The v4 contract has none of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.environments import (
    CreateEnvironmentRequest,
    EnvironmentResponse,
    UpdateEnvironmentRequest,
    environment_response,
)
from shared.contracts.generation.deployments import (
    CreateEnvironment,
    DeleteEnvironment,
    ListEnvironments,
    UpdateEnvironment,
)
from shared.contracts.permissions import EDIT_PROMPTS, MANAGE_ENVIRONMENTS
from shared.contracts.principal import Principal

router = APIRouter(tags=["Environments"], route_class=BodyRoute)

ManagerDep = Annotated[Principal, Depends(require(MANAGE_ENVIRONMENTS))]


@router.get("/environments", summary="List the environments")
async def list_environments(
    caller: Annotated[Principal, Depends(require(EDIT_PROMPTS, limited=True))], gateway: GatewayDep
) -> list[EnvironmentResponse]:
    """The default one first. Every project has all of them."""
    environments = (await gateway.bus.request(ListEnvironments(principal=caller))).environments
    return [environment_response(environment) for environment in environments]


@router.post("/environments", status_code=201, summary="Make an environment")
async def create_environment(
    body: CreateEnvironmentRequest, caller: ManagerDep, gateway: GatewayDep
) -> EnvironmentResponse:
    """409 if the name is taken."""
    command = CreateEnvironment(principal=caller, name=body.name)
    return environment_response(await gateway.bus.request(command))


@router.patch("/environments/{id}", summary="Rename an environment, make it the default one")
async def update_environment(
    id: str,  # noqa: A002
    body: UpdateEnvironmentRequest,
    caller: ManagerDep,
    gateway: GatewayDep,
) -> EnvironmentResponse:
    """In effect from the next call on; the old name is unknown then."""
    command = UpdateEnvironment(principal=caller, id=id, name=body.name, make_default=bool(body.default))
    return environment_response(await gateway.bus.request(command))


@router.delete("/environments/{id}", status_code=204, summary="Delete an environment")
async def delete_environment(id: str, caller: ManagerDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """Removes what is deployed in it. 409 for the default one."""
    await gateway.bus.request(DeleteEnvironment(principal=caller, id=id))
    return Response(status_code=204)
