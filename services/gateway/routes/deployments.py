"""Routes of deployments: list what is deployed, deploy, undeploy; the history of a project."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.bodies import MAX_PAGE_NUMBER, MAX_PAGE_SIZE, PaginatedData
from services.gateway.schemas.deployments import (
    DeploymentResponse,
    EnvironmentProjectConfigRequest,
    EnvironmentProjectConfigResponse,
    deployed_response,
    deployment_response,
)
from shared.contracts.generation.deployments import Deploy, ListDeployed, ListDeployments, Undeploy
from shared.contracts.logs import Page
from shared.contracts.permissions import CHANGE_DEPLOYMENTS, EDIT_PROMPTS
from shared.contracts.principal import Principal

router = APIRouter(tags=["Deployments"], route_class=BodyRoute)
console_router = APIRouter(tags=["Console"], route_class=BodyRoute)

ReaderDep = Annotated[Principal, Depends(require(EDIT_PROMPTS, limited=True))]
DeployerDep = Annotated[Principal, Depends(require(CHANGE_DEPLOYMENTS))]


@router.get("/projects/{id}/deployed-configs", summary="What is deployed in each environment")
async def list_deployed(
    id: str,  # noqa: A002 - the contract's name
    caller: ReaderDep,
    gateway: GatewayDep,
) -> list[EnvironmentProjectConfigResponse]:
    """One item for each environment, the default one first."""
    configs = await gateway.bus.request(ListDeployed(principal=caller, project_id=id))
    return [deployed_response(configs.project, deployed) for deployed in configs.deployed]


@router.patch("/projects/{project_id}/deploy-config", summary="Deploy a config")
async def deploy(
    project_id: str, body: EnvironmentProjectConfigRequest, caller: DeployerDep, gateway: GatewayDep
) -> list[EnvironmentProjectConfigResponse]:
    """Replaces what is deployed there. Returns one item for each environment the config was deployed to."""
    command = Deploy(
        principal=caller,
        project_id=project_id,
        config_id=body.config_id,
        environment_ids=[environment.id for environment in body.environments or ()],
    )
    configs = await gateway.bus.request(command)
    return [deployed_response(configs.project, deployed) for deployed in configs.deployed]


@router.delete("/projects/{project_id}/deployed-config/{environment_id}", summary="Remove what is deployed")
async def undeploy(project_id: str, environment_id: str, caller: DeployerDep, gateway: GatewayDep) -> None:
    """Changes nothing if nothing is deployed there."""
    await gateway.bus.request(Undeploy(principal=caller, project_id=project_id, environment_id=environment_id))


@console_router.get("/projects/{id}/deployments", summary="Who deployed and removed what")
async def list_deployments(
    id: str,  # noqa: A002
    caller: ReaderDep,
    gateway: GatewayDep,
    page: Annotated[int, Query(ge=0, le=MAX_PAGE_NUMBER, description="From 0.")] = 0,
    size: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 50,
) -> PaginatedData[DeploymentResponse]:
    """The history of the project, newest first."""
    query = ListDeployments(principal=caller, project_id=id, page=Page(number=page, size=size))
    history = await gateway.bus.request(query)
    records = [deployment_response(deployment) for deployment in history.deployments]
    return PaginatedData(records=records, page=page, size=size, total=history.total)
