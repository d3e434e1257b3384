"""Projects and config versions: found, made, read, changed, deleted."""

import asyncio
import random
from collections.abc import Sequence
from typing import Literal

from services.generation.deps import Deps
from services.generation.projects import feedback_types
from services.generation.store import DeploymentTarget, StoredProject
from shared import ids
from shared.bus import Router
from shared.contracts.generation.projects import (
    STANDARD_FEEDBACK,
    CreateProject,
    DefineFeedbackTypes,
    DeleteProject,
    FeedbackTypes,
    GetProject,
    GetProjects,
    GetVersions,
    ListProjects,
    ListVersions,
    ProjectChanged,
    ProjectDetails,
    ProjectPage,
    ProjectRef,
    Projects,
    ResolveConfig,
    ResolvedConfig,
    UpdateProject,
    VersionPage,
    Versions,
)
from shared.contracts.message import Done
from shared.errors import Conflict, Denied, Invalid, NotFound
from shared.permissions import CHANGE_DEPLOYMENTS, allows

router: Router[Deps] = Router()

_TRIES = 40
"""Several add to the types of a project in the same millisecond, as feedback does by itself: one of them saves, the
others decide again on what it saved."""
_STEP_ASIDE_SECONDS = 0.005
"""The next try comes after up to so long, times the number of tries: 2 s in all on average, within a question's 5 s."""


@router.request_handler(ResolveConfig)
async def resolve(command: ResolveConfig, deps: Deps) -> ResolvedConfig:
    """Find or make the project and the version."""
    if command.config is not None:
        return await deps.project_cache.register(
            command.organisation,
            command.project,
            command.config,
            may_deploy=command.may_deploy or allows(command.principal, CHANGE_DEPLOYMENTS),
            actor=command.actor,
        )
    if command.config_id is None:
        raise Invalid("Name a config: either the config itself or config_id is needed.")
    return await deps.project_cache.resolve(command.organisation, command.project, command.config_id)


@router.request_handler(GetVersions)
async def get_versions(query: GetVersions, deps: Deps) -> Versions:
    """Versions by id; those of a project that is being deleted are not there any more."""
    found = await deps.stores.versions.get_many(query.organisation, query.ids)
    projects = await deps.stores.projects.get_many(query.organisation, [version.project_id for version in found])
    living = {project.id for project in projects}
    return Versions(versions=[version for version in found if version.project_id in living])


@router.request_handler(ListVersions)
async def list_versions(query: ListVersions, deps: Deps) -> VersionPage:
    """A page of the versions of a project."""
    await _existing(query.organisation, query.project_id, deps)
    found, total = await deps.stores.versions.list_page(query.organisation, query.project_id, query.page)
    return VersionPage(versions=found, total=total)


@router.request_handler(GetProjects)
async def get_projects(query: GetProjects, deps: Deps) -> Projects:
    """Projects by id."""
    return Projects(projects=await deps.stores.projects.get_many(query.organisation, query.ids))


@router.request_handler(GetProject)
async def get_project(query: GetProject, deps: Deps) -> ProjectDetails:
    """One project with what is set in it."""
    return await _details(query.organisation, await _existing(query.organisation, query.id, deps), deps)


@router.request_handler(ListProjects)
async def list_projects(query: ListProjects, deps: Deps) -> ProjectPage:
    """A page of projects."""
    found, total = await deps.stores.projects.list_page(query.organisation, query)
    return ProjectPage(projects=await _with_active(query.organisation, found, deps), total=total)


@router.request_handler(CreateProject)
async def create_project(command: CreateProject, deps: Deps) -> ProjectDetails:
    """Make an empty project."""
    types = feedback_types.merge_definitions(STANDARD_FEEDBACK, command.feedback_types)
    stored = await deps.stores.projects.insert(command, types)
    await _tell(command, stored, "created", deps)
    return await _details(command.organisation, stored, deps)


@router.request_handler(UpdateProject)
async def update_project(command: UpdateProject, deps: Deps) -> ProjectDetails:
    """Rename, deploy. The config is looked at before the name is changed, the name can be refused before deploying."""
    organisation, config_id = command.organisation, command.active_config_id
    stored = await _existing(organisation, command.id, deps)
    if config_id is not None:
        await deps.project_cache.resolve(organisation, ProjectRef(id=command.id), config_id)
    if fields := command.model_dump(include={"name", "directory_id"}, exclude_none=True):
        if any(getattr(stored.project, name) != value for name, value in fields.items()):
            await deps.stores.projects.update(organisation, command.id, fields)
            stored = await _existing(organisation, command.id, deps)
        await _tell(command, stored, "renamed", deps)
    if config_id is not None:
        default = (await deps.environments.get(organisation)).default
        await deps.deployments.deploy(DeploymentTarget(organisation, command.id, default.id), config_id, command.actor)
    return await _details(organisation, stored, deps)


@router.request_handler(DeleteProject)
async def delete_project(command: DeleteProject, deps: Deps) -> Done:
    """Hide it, then remove what it had. What stays undone is finished by a repeat, or a minute later by itself."""
    may_undeploy = command.may_undeploy or allows(command.principal, CHANGE_DEPLOYMENTS)
    if not may_undeploy and await _is_deployed(command.organisation, command.id, deps):
        raise Denied(
            "Something is deployed in this project, and your role may not change what is deployed. Ask a Developer or "
            "an Admin to delete it."
        )
    if not await deps.stores.projects.mark_deleted(command.organisation, command.id):
        raise _unknown(command.id)
    await deps.deletion.purge(command.organisation, command.id, command.actor)
    return Done()


@router.request_handler(DefineFeedbackTypes)
async def define_feedback_types(command: DefineFeedbackTypes, deps: Deps) -> FeedbackTypes:
    """Add or change types of feedback; decided and saved on one revision of them."""
    for tries in range(_TRIES):
        await asyncio.sleep(random.uniform(0, _STEP_ASIDE_SECONDS) * tries)  # noqa: S311 - no secret
        stored = await _existing(command.organisation, command.project_id, deps)
        types = feedback_types.merge_definitions(stored.feedback_types, command.types)
        if types == stored.feedback_types:
            break
        if await deps.stores.projects.save_feedback_types(command.organisation, stored, types):
            break
    else:
        raise Conflict("The feedback types of this project are being changed by others. Try again.")
    change = ProjectChanged(
        organisation=command.organisation, project_id=command.project_id, what="feedback types", actor=command.actor
    )
    await deps.invalidation.publish(change, ids.mint("evt"))
    return FeedbackTypes(types=types)


async def _tell(
    command: CreateProject | UpdateProject, stored: StoredProject, what: Literal["created", "renamed"], deps: Deps
) -> None:
    change = ProjectChanged(organisation=command.organisation, project_id=command.id, what=what, actor=command.actor)
    await deps.invalidation.publish(change, stored.project.updated_at.isoformat())


async def _is_deployed(organisation: str, project_id: str, deps: Deps) -> bool:
    environments = [one.id for one in await deps.environments.get(organisation)]
    return bool(await deps.stores.deployments.get_deployed_config_ids(organisation, [project_id], environments))


def _unknown(project_id: str) -> NotFound:
    return NotFound(f"There is no project {project_id!r}.")


async def _existing(organisation: str, project_id: str, deps: Deps) -> StoredProject:
    if stored := await deps.stores.projects.get(organisation, project_id):
        return stored
    raise _unknown(project_id)


async def _details(organisation: str, stored: StoredProject, deps: Deps) -> ProjectDetails:
    return (await _with_active(organisation, [stored], deps))[0]


async def _with_active(organisation: str, found: Sequence[StoredProject], deps: Deps) -> list[ProjectDetails]:
    """Projects and what is deployed in the default environment."""
    default = (await deps.environments.get(organisation)).default
    project_ids = [stored.project.id for stored in found]
    deployed = await deps.stores.deployments.get_deployed_config_ids(organisation, project_ids, [default.id])
    versions = await deps.stores.versions.get_many(organisation, list(deployed.values()))
    active = {version.project_id: version for version in versions}
    return [
        ProjectDetails(
            project=stored.project, feedback_types=stored.feedback_types, active=active.get(stored.project.id)
        )
        for stored in found
    ]
