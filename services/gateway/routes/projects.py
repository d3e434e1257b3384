"""Projects: listed, made, read, changed, deleted; their configs, and which of them is active."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.paging import COUNT_TIMEOUT_SECONDS, PAGE_TIMEOUT_SECONDS, fetch_all, fetch_page
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.bodies import PaginatedData
from services.gateway.schemas.configs import ProjectConfigResponse
from services.gateway.schemas.projects import (
    CreateProjectRequest,
    FeedbackTypeModel,
    FeedbackTypeRequest,
    GetModelConfigResponse,
    ProjectResponse,
    ProjectsQuery,
    UpdateProjectRequest,
    active_config_response,
    feedback_type_response,
    project_config_response,
    project_response,
)
from shared.contracts.access import ListMembers, Member
from shared.contracts.generation.deployments import GetActiveConfig, Undeploy
from shared.contracts.generation.projects import (
    ConfigVersion,
    CreateProject,
    DefineFeedbackTypes,
    DeleteProject,
    GetProject,
    ListVersions,
    ProjectDetails,
    UpdateProject,
)
from shared.contracts.logs import GetUses, Page, Uses
from shared.contracts.principal import Principal
from shared.errors import Unavailable
from shared.permissions import CHANGE_DEPLOYMENTS, EDIT_PROMPTS, authorize

router = APIRouter(tags=["Projects"], route_class=BodyRoute)

CallerDep = Annotated[Principal, Depends(require(EDIT_PROMPTS))]
DeployerDep = Annotated[Principal, Depends(require(CHANGE_DEPLOYMENTS))]


@router.get("/projects", summary="List the projects")
async def list_projects(
    wanted: Annotated[ProjectsQuery, Query()], caller: CallerDep, gateway: GatewayDep
) -> PaginatedData[ProjectResponse]:
    """Every project of the organisation, newest first unless `sort_by` and `order` say otherwise."""
    members = await _members(caller, gateway)
    if not wanted.matches_a_member(members):
        return PaginatedData(records=[], page=wanted.page, size=wanted.size, total=0)

    async def ask(page: Page) -> tuple[list[ProjectDetails], int]:
        answer = await gateway.bus.request(wanted.to_list_projects(caller, page), timeout_seconds=PAGE_TIMEOUT_SECONDS)
        return answer.projects, answer.total

    found, total = await fetch_page(Page(number=wanted.page, size=wanted.size), ask)
    uses = await _uses(found, caller, gateway)
    shown = await _shown(found, caller, gateway)
    records = [project_response(caller.organisation, one, members, uses) for one in shown]
    return PaginatedData(records=records, page=wanted.page, size=wanted.size, total=total)


@router.post("/projects", status_code=201, summary="Make a project")
async def create(body: CreateProjectRequest, caller: CallerDep, gateway: GatewayDep) -> ProjectResponse:
    """409 if the name is taken."""
    members = await _members(caller, gateway)  # before the project is made: a repeat would find its name taken
    command = CreateProject(
        principal=caller,
        name=body.name,
        directory_id=body.directory_id,
        feedback_types=[one.to_feedback_type() for one in body.feedback_types],
    )
    return project_response(caller.organisation, await gateway.bus.request(command), members, Uses())


@router.get("/projects/{id}", summary="Read a project")
async def get(id: str, caller: CallerDep, gateway: GatewayDep) -> ProjectResponse:  # noqa: A002
    """404 when there is none in the caller's organisation."""
    return await _response(await _project(id, caller, gateway), caller, gateway)


@router.patch("/projects/{id}", summary="Rename a project, set its active config")
async def update(
    id: str,  # noqa: A002 - the contract's name
    body: UpdateProjectRequest,
    caller: CallerDep,
    gateway: GatewayDep,
) -> ProjectResponse:
    """All of it or nothing. An active config is deployed to the default environment, which needs that right."""
    if body.active_config_id is not None:
        authorize(caller, CHANGE_DEPLOYMENTS)
    fields = body.model_dump(exclude_none=True)
    command = UpdateProject(principal=caller, id=id, **fields)
    members = await _members(caller, gateway)
    found = await gateway.bus.request(command)
    gateway.project_cache.invalidate(caller.organisation, id)
    return await _changed(found, members, caller, gateway)


@router.delete("/projects/{id}", status_code=204, summary="Delete a project")
async def delete(id: str, caller: CallerDep, gateway: GatewayDep) -> Response:  # noqa: A002 - the contract's name
    """With its configs, deployments and logs; sessions keep the logs of other projects. One in which something is
    deployed only by who may change that.
    """
    await gateway.bus.request(DeleteProject(principal=caller, id=id))
    gateway.project_cache.invalidate(caller.organisation, id)
    return Response(status_code=204)


@router.get("/projects/{id}/configs", summary="List the configs of a project")
async def list_configs(
    id: str,  # noqa: A002 - the contract's name
    caller: CallerDep,
    gateway: GatewayDep,
    evaluation_aggregates: bool | None = None,  # noqa: ARG001 - there is nothing to aggregate yet
) -> list[ProjectConfigResponse]:
    """Every version, newest first."""
    project = (await _project(id, caller, gateway)).project

    async def ask(page: Page) -> tuple[list[ConfigVersion], int]:
        answer = await gateway.bus.request(ListVersions(principal=caller, project_id=id, page=page))
        return answer.versions, answer.total

    versions = await fetch_all(ask)
    uses = await _use_of([version.id for version in versions], caller, gateway)
    shown = await gateway.project_cache.fill_linked_tools(caller.organisation, versions)
    return [project_config_response(project, version, uses.configs.get(version.id)) for version in shown]


@router.get("/projects/{id}/active-config", summary="Read the config that calls in an environment use")
async def get_active_config(
    id: str,  # noqa: A002 - the contract's name
    caller: CallerDep,
    gateway: GatewayDep,
    environment: Annotated[str | None, Query(description="Its name; the default one if absent.")] = None,
) -> GetModelConfigResponse:
    """404 when nothing is deployed there."""
    query = GetActiveConfig(principal=caller, project_id=id, environment=environment)
    active = await gateway.bus.request(query)
    uses = await _use_of([active.version.id], caller, gateway)
    (version,) = await gateway.project_cache.fill_linked_tools(caller.organisation, [active.version])
    shown = active.model_copy(update={"version": version})
    return active_config_response(shown, uses.configs.get(version.id))


@router.delete("/projects/{id}/active-config", summary="Remove the active config")
async def deactivate_config(
    id: str,  # noqa: A002 - the contract's name
    caller: DeployerDep,
    gateway: GatewayDep,
    environment: Annotated[str | None, Query(description="Its name; the default one if absent.")] = None,
) -> ProjectResponse:
    """Nothing happens if nothing is deployed there."""
    command = Undeploy(principal=caller, project_id=id, environment=environment)
    members = await _members(caller, gateway)
    await gateway.bus.request(command)
    return await _changed(await _project(id, caller, gateway), members, caller, gateway)


@router.post("/projects/{id}/feedback-types", status_code=201, summary="Define a type of feedback")
async def create_feedback_type(
    id: str,  # noqa: A002 - the contract's name
    body: FeedbackTypeRequest,
    caller: CallerDep,
    gateway: GatewayDep,
) -> FeedbackTypeModel:
    """Of a type that is there already, labels are added or changed."""
    return next(one for one in await _define(id, [body], caller, gateway) if one.type == body.type)


@router.patch("/projects/{id}/feedback-types", summary="Define types of feedback")
async def update_feedback_types(
    id: str,  # noqa: A002 - the contract's name
    body: list[FeedbackTypeRequest],
    caller: CallerDep,
    gateway: GatewayDep,
) -> list[FeedbackTypeModel]:
    """Types and labels are added or changed, never removed. The answer has all of the project."""
    return await _define(id, body, caller, gateway)


async def _define(
    project_id: str, wanted: list[FeedbackTypeRequest], caller: Principal, gateway: Gateway
) -> list[FeedbackTypeModel]:
    types = [one.to_feedback_type() for one in wanted]
    command = DefineFeedbackTypes(principal=caller, project_id=project_id, types=types)
    return [feedback_type_response(one) for one in (await gateway.bus.request(command)).types]


async def _project(project_id: str, caller: Principal, gateway: Gateway) -> ProjectDetails:
    return await gateway.bus.request(GetProject(principal=caller, id=project_id))


async def _response(found: ProjectDetails, caller: Principal, gateway: Gateway) -> ProjectResponse:
    members, uses = await asyncio.gather(_members(caller, gateway), _uses([found], caller, gateway))
    (shown,) = await _shown([found], caller, gateway)
    return project_response(caller.organisation, shown, members, uses)


async def _shown(found: list[ProjectDetails], caller: Principal, gateway: Gateway) -> list[ProjectDetails]:
    """With the tools their active configs link to as they are now."""
    active = [one.active for one in found if one.active]
    filled = {
        version.id: version for version in await gateway.project_cache.fill_linked_tools(caller.organisation, active)
    }
    return [one.model_copy(update={"active": filled[one.active.id]}) if one.active else one for one in found]


async def _changed(
    found: ProjectDetails, members: list[Member], caller: Principal, gateway: Gateway
) -> ProjectResponse:
    """What was changed is not told to have failed because its logs cannot be counted now: then it has none."""
    try:
        uses = await _uses([found], caller, gateway, seconds=COUNT_TIMEOUT_SECONDS)
    except Unavailable:
        uses = Uses()
    (shown,) = await _shown([found], caller, gateway)
    return project_response(caller.organisation, shown, members, uses)


async def _members(caller: Principal, gateway: Gateway) -> list[Member]:
    return (await gateway.bus.request(ListMembers(principal=caller))).members


async def _uses(
    found: list[ProjectDetails], caller: Principal, gateway: Gateway, *, seconds: float = PAGE_TIMEOUT_SECONDS
) -> Uses:
    query = GetUses(
        principal=caller,
        project_ids=[one.project.id for one in found],
        config_ids=[one.active.id for one in found if one.active],
    )
    return await gateway.bus.request(query, timeout_seconds=seconds)


async def _use_of(config_ids: list[str], caller: Principal, gateway: Gateway) -> Uses:
    query = GetUses(principal=caller, config_ids=config_ids)
    return await gateway.bus.request(query, timeout_seconds=PAGE_TIMEOUT_SECONDS)
