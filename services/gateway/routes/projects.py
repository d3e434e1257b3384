"""Routes of projects: list, create, get, update, delete; their configs, active config and feedback types."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.paging import COUNT_TIMEOUT_SECONDS, PAGE_TIMEOUT_SECONDS, fetch_all, fetch_page
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.bodies import PaginatedData
from services.gateway.schemas.config_responses import ProjectConfigResponse, project_config_response
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
    project_response,
)
from shared.contracts.access.members import ListMembers, Member
from shared.contracts.generation.deployments import GetActiveConfig, Undeploy
from shared.contracts.generation.projects import (
    MAX_FEEDBACK_TYPES,
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
from shared.contracts.permissions import CHANGE_DEPLOYMENTS, EDIT_PROMPTS
from shared.contracts.principal import Principal
from shared.contracts.value import Array
from shared.errors import Unavailable
from shared.permissions import authorize

router = APIRouter(tags=["Projects"], route_class=BodyRoute)

CallerDep = Annotated[Principal, Depends(require(EDIT_PROMPTS))]
LimitedDep = Annotated[Principal, Depends(require(EDIT_PROMPTS, limited=True))]
DeployerDep = Annotated[Principal, Depends(require(CHANGE_DEPLOYMENTS))]


@router.get("/projects", summary="List the projects")
async def list_projects(
    query: Annotated[ProjectsQuery, Query()], caller: LimitedDep, gateway: GatewayDep
) -> PaginatedData[ProjectResponse]:
    """Every project of the organisation, newest first unless `sort_by` and `order` say otherwise."""
    members = await _list_members(caller, gateway)
    if not query.matches_a_member(members):
        return PaginatedData(records=[], page=query.page, size=query.size, total=0)

    async def list_page(page: Page) -> tuple[list[ProjectDetails], int]:
        result = await gateway.bus.request(query.to_list_projects(caller, page), timeout_seconds=PAGE_TIMEOUT_SECONDS)
        return result.projects, result.total

    projects, total = await fetch_page(Page(number=query.page, size=query.size), list_page)
    uses = await _get_uses(projects, caller, gateway)
    projects = await _fill_linked_tools(projects, caller, gateway)
    records = [project_response(caller.organisation, project, members, uses) for project in projects]
    return PaginatedData(records=records, page=query.page, size=query.size, total=total)


@router.post("/projects", status_code=201, summary="Make a project")
async def create(body: CreateProjectRequest, caller: CallerDep, gateway: GatewayDep) -> ProjectResponse:
    """409 if the name is taken."""
    members = await _list_members(
        caller, gateway
    )  # before creating: if it failed after, a retry would find the name taken
    command = CreateProject(
        principal=caller,
        name=body.name,
        directory_id=body.directory_id,
        feedback_types=[feedback_type.to_feedback_type() for feedback_type in body.feedback_types],
    )
    return project_response(caller.organisation, await gateway.bus.request(command), members, Uses())


@router.get("/projects/{id}", summary="Read a project")
async def get(id: str, caller: LimitedDep, gateway: GatewayDep) -> ProjectResponse:  # noqa: A002
    """404 if there is no such project in the caller's organisation."""
    project = await _get_project(id, caller, gateway)
    members, uses = await asyncio.gather(_list_members(caller, gateway), _get_uses([project], caller, gateway))
    (project,) = await _fill_linked_tools([project], caller, gateway)
    return project_response(caller.organisation, project, members, uses)


@router.patch("/projects/{id}", summary="Rename a project, set its active config")
async def update(
    id: str,  # noqa: A002 - the contract's name
    body: UpdateProjectRequest,
    caller: CallerDep,
    gateway: GatewayDep,
) -> ProjectResponse:
    """Applies all changes or none; `positive_labels`, which clients up to 0.7.0 send, by themselves before the others.
    `active_config_id` is deployed to the default environment; this needs the permission to change deployments.
    """
    if body.active_config_id is not None:
        authorize(caller, CHANGE_DEPLOYMENTS)
    fields = body.model_dump(include={"name", "active_config_id", "directory_id"}, exclude_none=True)
    command = UpdateProject(principal=caller, id=id, **fields)
    if body.positive_labels is not None:
        existing = (await _get_project(id, caller, gateway)).feedback_types
        types = body.positive_feedback_types(existing)
        await gateway.bus.request(DefineFeedbackTypes(principal=caller, project_id=id, types=types))
    members = await _list_members(caller, gateway)
    project = await gateway.bus.request(command)
    gateway.project_cache.invalidate(caller.organisation, id)
    return await _changed_project_response(project, members, caller, gateway)


@router.delete("/projects/{id}", status_code=204, summary="Delete a project")
async def delete(id: str, caller: CallerDep, gateway: GatewayDep) -> Response:  # noqa: A002 - the contract's name
    """Deletes its configs, deployments and logs too; sessions keep the logs of other projects. If something is deployed
    in it, the caller needs the permission to change deployments.
    """
    await gateway.bus.request(DeleteProject(principal=caller, id=id))
    gateway.project_cache.invalidate(caller.organisation, id)
    return Response(status_code=204)


@router.get("/projects/{id}/configs", summary="List the configs of a project")
async def list_configs(
    id: str,  # noqa: A002 - the contract's name
    caller: LimitedDep,
    gateway: GatewayDep,
    evaluation_aggregates: bool | None = None,
) -> list[ProjectConfigResponse]:
    """Every version, newest first."""
    project = (await _get_project(id, caller, gateway)).project

    async def list_page(page: Page) -> tuple[list[ConfigVersion], int]:
        result = await gateway.bus.request(ListVersions(principal=caller, project_id=id, page=page))
        return result.versions, result.total

    versions = await fetch_all(list_page)
    uses = await _get_config_uses([version.id for version in versions], caller, gateway)
    versions = await gateway.project_cache.fill_linked_tools(caller.organisation, versions)
    responses = [project_config_response(project, version, uses.configs.get(version.id)) for version in versions]
    if evaluation_aggregates:
        responses = [response.model_copy(update={"evaluation_aggregates": []}) for response in responses]
    return responses


@router.get("/projects/{id}/active-config", summary="Read the config that calls in an environment use")
async def get_active_config(
    id: str,  # noqa: A002 - the contract's name
    caller: LimitedDep,
    gateway: GatewayDep,
    environment: Annotated[str | None, Query(description="Its name; the default one if absent.")] = None,
) -> GetModelConfigResponse:
    """404 if nothing is deployed there."""
    query = GetActiveConfig(principal=caller, project_id=id, environment=environment)
    active = await gateway.bus.request(query)
    uses = await _get_config_uses([active.version.id], caller, gateway)
    (version,) = await gateway.project_cache.fill_linked_tools(caller.organisation, [active.version])
    return active_config_response(active.model_copy(update={"version": version}), uses.configs.get(version.id))


@router.delete("/projects/{id}/active-config", summary="Remove the active config")
async def deactivate_config(
    id: str,  # noqa: A002 - the contract's name
    caller: DeployerDep,
    gateway: GatewayDep,
    environment: Annotated[str | None, Query(description="Its name; the default one if absent.")] = None,
) -> ProjectResponse:
    """Changes nothing if nothing is deployed there."""
    command = Undeploy(principal=caller, project_id=id, environment=environment)
    members = await _list_members(caller, gateway)
    await gateway.bus.request(command)
    project = await _get_project(id, caller, gateway)
    return await _changed_project_response(project, members, caller, gateway)


@router.post("/projects/{id}/feedback-types", status_code=201, summary="Define a type of feedback")
async def create_feedback_type(
    id: str,  # noqa: A002 - the contract's name
    body: FeedbackTypeRequest,
    caller: LimitedDep,
    gateway: GatewayDep,
) -> FeedbackTypeModel:
    """If the project has the type already, its labels are added or changed."""
    types = await _define_feedback_types(id, [body], caller, gateway)
    return next(feedback_type for feedback_type in types if feedback_type.type == body.type)


@router.patch("/projects/{id}/feedback-types", summary="Define types of feedback")
async def update_feedback_types(
    id: str,  # noqa: A002 - the contract's name
    caller: LimitedDep,
    gateway: GatewayDep,
    body: Annotated[Array[FeedbackTypeRequest] | None, Body(max_length=MAX_FEEDBACK_TYPES)] = None,
) -> list[FeedbackTypeModel]:
    """Adds or changes types and labels, removes none. Returns all types of the project, also without a body."""
    if not body:
        return [feedback_type_response(one) for one in (await _get_project(id, caller, gateway)).feedback_types]
    return await _define_feedback_types(id, body, caller, gateway)


async def _define_feedback_types(
    project_id: str, requests: list[FeedbackTypeRequest], caller: Principal, gateway: Gateway
) -> list[FeedbackTypeModel]:
    """Add or change feedback types and return all of the project."""
    types = [request.to_feedback_type() for request in requests]
    command = DefineFeedbackTypes(principal=caller, project_id=project_id, types=types)
    return [feedback_type_response(feedback_type) for feedback_type in (await gateway.bus.request(command)).types]


async def _get_project(project_id: str, caller: Principal, gateway: Gateway) -> ProjectDetails:
    return await gateway.bus.request(GetProject(principal=caller, id=project_id))


async def _fill_linked_tools(
    projects: list[ProjectDetails], caller: Principal, gateway: Gateway
) -> list[ProjectDetails]:
    """Return `projects` with the present state of the tools that their active configs link to."""
    active = [project.active for project in projects if project.active]
    versions = await gateway.project_cache.fill_linked_tools(caller.organisation, active)
    filled = {version.id: version for version in versions}
    return [
        project.model_copy(update={"active": filled[project.active.id]}) if project.active else project
        for project in projects
    ]


async def _changed_project_response(
    project: ProjectDetails, members: list[Member], caller: Principal, gateway: Gateway
) -> ProjectResponse:
    """Return the response after a change; without use if logs cannot be counted now, because the change was made."""
    try:
        uses = await _get_uses([project], caller, gateway, timeout_seconds=COUNT_TIMEOUT_SECONDS)
    except Unavailable:
        uses = Uses()
    (project,) = await _fill_linked_tools([project], caller, gateway)
    return project_response(caller.organisation, project, members, uses)


async def _list_members(caller: Principal, gateway: Gateway) -> list[Member]:
    return (await gateway.bus.request(ListMembers(principal=caller))).members


async def _get_uses(
    projects: list[ProjectDetails],
    caller: Principal,
    gateway: Gateway,
    *,
    timeout_seconds: float = PAGE_TIMEOUT_SECONDS,
) -> Uses:
    """Return log counts and last uses of projects and their active configs."""
    query = GetUses(
        principal=caller,
        project_ids=[project.project.id for project in projects],
        config_ids=[project.active.id for project in projects if project.active],
    )
    return await gateway.bus.request(query, timeout_seconds=timeout_seconds)


async def _get_config_uses(config_ids: list[str], caller: Principal, gateway: Gateway) -> Uses:
    query = GetUses(principal=caller, config_ids=config_ids)
    return await gateway.bus.request(query, timeout_seconds=PAGE_TIMEOUT_SECONDS)
