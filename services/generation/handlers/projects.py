"""Answers commands and queries about projects, their config versions and feedback types."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import JsonValue

from services.generation.deps import Deps
from services.generation.projects import feedback_types
from services.generation.projects.deployments import TargetNames
from services.generation.projects.project_cache import project_created
from services.generation.projects.project_scope import limit_config, limit_project
from services.generation.store import DeploymentTarget, StoredProject
from shared import ids
from shared.audit import audit_entry
from shared.bus import Router
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.generation.projects import (
    STANDARD_FEEDBACK,
    CreateProject,
    DefineFeedbackTypes,
    DeleteProject,
    FeedbackType,
    FeedbackTypes,
    GetProject,
    GetProjects,
    GetVersions,
    ListProjects,
    ListVersions,
    Project,
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
from shared.contracts.permissions import CHANGE_DEPLOYMENTS
from shared.errors import Conflict, Denied, Invalid, NotFound
from shared.permissions import allows, authorize

router: Router[Deps] = Router()

_MAX_TRIES = 40
"""Bounds repeats of a change of feedback types that another change came between (optimistic locking by revision). Many
come at once, because feedback with a new label defines that label by itself."""
_RETRY_DELAY_SECONDS = 0.005
"""Upper bound of the random delay before a repeat, times its number: 2 s in all on average, within a request's 5 s."""


@router.answers(ResolveConfig)
async def resolve(command: ResolveConfig, deps: Deps) -> ResolvedConfig:
    """Return project and version: by `config`, which are created if they do not exist, or by `config_id`.

    Raises Invalid if the command has neither, NotFound if there is no such project or config.
    """
    organisation, principal, create = command.organisation, command.principal, command.config is not None
    project = await limit_project(deps.project_cache, organisation, principal, command.project, create=create)
    if command.config is not None:
        return await deps.project_cache.register(
            organisation,
            project,
            command.config,
            may_deploy=allows(principal, CHANGE_DEPLOYMENTS),
            principal=principal,
        )
    if command.config_id is None:
        raise Invalid("Name a config: either the config itself or config_id is needed.")
    await limit_config(deps.project_cache, organisation, principal, command.config_id)
    return await deps.project_cache.resolve(organisation, project, command.config_id)


@router.answers(GetVersions)
async def get_versions(query: GetVersions, deps: Deps) -> Versions:
    """Return versions by id, of those that exist; without those of projects that are being deleted."""
    versions = await deps.stores.versions.get_many(query.organisation, query.ids)
    projects = await deps.stores.projects.get_many(query.organisation, [version.project_id for version in versions])
    project_ids = {project.id for project in projects}
    return Versions(versions=[version for version in versions if version.project_id in project_ids])


@router.answers(ListVersions)
async def list_versions(query: ListVersions, deps: Deps) -> VersionPage:
    """Return a page of the versions of a project, newest first. Raises NotFound if there is no such project."""
    await _get_project(query.organisation, query.project_id, deps)
    versions, total = await deps.stores.versions.list_page(query.organisation, query.project_id, query.page)
    return VersionPage(versions=versions, total=total)


@router.answers(GetProjects)
async def get_projects(query: GetProjects, deps: Deps) -> Projects:
    """Return projects by id, of those that exist."""
    return Projects(projects=await deps.stores.projects.get_many(query.organisation, query.ids))


@router.answers(GetProject)
async def get_project(query: GetProject, deps: Deps) -> ProjectDetails:
    """Return a project with its feedback types and active config. Raises NotFound if there is no such project."""
    return await _details(query.organisation, await _get_project(query.organisation, query.id, deps), deps)


@router.answers(ListProjects)
async def list_projects(query: ListProjects, deps: Deps) -> ProjectPage:
    """Return a page of projects, filtered and sorted as the query says."""
    projects, total = await deps.stores.projects.list_page(query.organisation, query)
    return ProjectPage(projects=await _with_active_configs(query.organisation, projects, deps), total=total)


@router.answers(CreateProject)
async def create_project(command: CreateProject, deps: Deps) -> ProjectDetails:
    """Create a project without configs. Raises Conflict if the name is taken."""
    types = feedback_types.merge_definitions(STANDARD_FEEDBACK, command.feedback_types)
    inserted = await deps.audit.record(
        lambda session: deps.stores.projects.insert(command, types, session),
        lambda stored: project_created(command.principal, command.organisation, stored.project.id, command.name),
    )
    stored = inserted or await _get_project(command.organisation, command.id, deps)
    await _publish_change(command, stored, "created", deps)
    return await _details(command.organisation, stored, deps)


@router.answers(UpdateProject)
async def update_project(command: UpdateProject, deps: Deps) -> ProjectDetails:
    """Update fields, then deploy `active_config_id` to the default environment. What can fail is checked before that.

    Raises NotFound if the project or the config does not exist, Conflict if the name is taken, Denied if the role may
    not change what is deployed.
    """
    organisation, config_id = command.organisation, command.active_config_id
    if config_id is not None:
        authorize(command.principal, CHANGE_DEPLOYMENTS)
    stored = await _get_project(organisation, command.id, deps)
    if config_id is not None:
        await deps.project_cache.resolve(organisation, ProjectRef(id=command.id), config_id)
    if fields := command.model_dump(include={"name", "directory_id"}, exclude_none=True):
        if any(getattr(stored.project, name) != value for name, value in fields.items()):
            await deps.audit.record(
                lambda session: deps.stores.projects.update(organisation, command.id, fields, session),
                lambda _: list(_update_entries(command, stored.project)),
            )
            stored = await _get_project(organisation, command.id, deps)
        await _publish_change(command, stored, "renamed", deps)
    if config_id is not None:
        default = (await deps.environments.get(organisation)).default
        target, names = (
            DeploymentTarget(organisation, command.id, default.id),
            TargetNames(stored.project.name, default.name),
        )
        await deps.deployments.deploy(target, config_id, command.principal, names)
    return await _details(organisation, stored, deps)


@router.answers(DeleteProject)
async def delete_project(command: DeleteProject, deps: Deps) -> Done:
    """Mark a project deleted, then delete what it has. After a crash a repeat finishes this, or a task a minute later.

    Raises NotFound if there is no such project, Denied if something is deployed and the role may not change that.
    """
    may_undeploy = allows(command.principal, CHANGE_DEPLOYMENTS)
    if not may_undeploy and await _is_deployed(command.organisation, command.id, deps):
        raise Denied(
            "Something is deployed in this project, and your role may not change what is deployed. Ask a Developer or "
            "an Admin to delete it."
        )
    stored = await deps.stores.projects.get(command.organisation, command.id)
    changed = AuditObject(kind="project", id=command.id, name=stored and stored.project.name)
    marked = await deps.audit.record(
        lambda session: deps.stores.projects.mark_deleted(command.organisation, command.id, session),
        lambda _: audit_entry("project.deleted", command.principal, command.organisation, changed, [command.id]),
    )
    if not marked:
        raise _not_found(command.id)
    await deps.deletion.purge(command.organisation, command.id, command.actor)
    return Done()


@router.answers(DefineFeedbackTypes)
async def define_feedback_types(command: DefineFeedbackTypes, deps: Deps) -> FeedbackTypes:
    """Add or change feedback types and return all of the project; decided and saved on one revision of them.

    Raises NotFound if there is no such project, Conflict if others change its types all the time.
    """
    for attempt in range(_MAX_TRIES):
        await asyncio.sleep(random.uniform(0, _RETRY_DELAY_SECONDS) * attempt)  # noqa: S311 - no secret
        stored = await _get_project(command.organisation, command.project_id, deps)
        types = feedback_types.merge_definitions(stored.feedback_types, command.types)
        if types == stored.feedback_types:
            break
        if await _save_feedback_types(command, stored, types, deps):
            break
    else:
        raise Conflict("The feedback types of this project are being changed by others. Try again.")
    change = ProjectChanged(
        organisation=command.organisation, project_id=command.project_id, what="feedback types", actor=command.actor
    )
    await deps.invalidation.publish(change, ids.mint("evt"))
    return FeedbackTypes(types=types)


async def _save_feedback_types(
    command: DefineFeedbackTypes, before: StoredProject, types: Sequence[FeedbackType], deps: Deps
) -> bool | None:
    """Save the types with their entry in the audit log; return False if others were saved meanwhile."""
    changed: list[JsonValue] = [one.type for one in types if one not in before.feedback_types]
    project = AuditObject(kind="project", id=before.project.id, name=before.project.name)
    cause, details = [project.id or "", str(before.feedback_revision)], {"types": changed}
    return await deps.audit.record(
        lambda session: deps.stores.projects.save_feedback_types(command.organisation, before, types, session),
        lambda _: audit_entry(
            "feedback_types.defined", command.principal, command.organisation, project, cause, details
        ),
    )


def _update_entries(command: UpdateProject, before: Project) -> Iterator[AuditEntry]:
    """Yield an entry for each field that a command changes."""
    name = command.name or before.name
    changed = AuditObject(kind="project", id=before.id, name=name)
    if name != before.name:
        details: dict[str, JsonValue] = {"from": before.name}
        yield audit_entry("project.renamed", command.principal, command.organisation, changed, details=details)
    if command.directory_id not in {None, before.directory_id}:
        details = {"from": before.directory_id, "to": command.directory_id}
        yield audit_entry("project.moved", command.principal, command.organisation, changed, details=details)


async def _publish_change(
    command: CreateProject | UpdateProject, stored: StoredProject, what: Literal["created", "renamed"], deps: Deps
) -> None:
    change = ProjectChanged(organisation=command.organisation, project_id=command.id, what=what, actor=command.actor)
    await deps.invalidation.publish(change, stored.project.updated_at.isoformat())


async def _is_deployed(organisation: str, project_id: str, deps: Deps) -> bool:
    environment_ids = [environment.id for environment in await deps.environments.get(organisation)]
    return bool(await deps.stores.deployments.get_deployed_config_ids(organisation, [project_id], environment_ids))


def _not_found(project_id: str) -> NotFound:
    return NotFound(f"There is no project {project_id!r}.")


async def _get_project(organisation: str, project_id: str, deps: Deps) -> StoredProject:
    if stored := await deps.stores.projects.get(organisation, project_id):
        return stored
    raise _not_found(project_id)


async def _details(organisation: str, stored: StoredProject, deps: Deps) -> ProjectDetails:
    return (await _with_active_configs(organisation, [stored], deps))[0]


async def _with_active_configs(
    organisation: str, projects: Sequence[StoredProject], deps: Deps
) -> list[ProjectDetails]:
    """Return projects with the configs that are deployed in the default environment."""
    default = (await deps.environments.get(organisation)).default
    project_ids = [stored.project.id for stored in projects]
    deployed = await deps.stores.deployments.get_deployed_config_ids(organisation, project_ids, [default.id])
    versions = await deps.stores.versions.get_many(organisation, list(deployed.values()))
    active = {version.project_id: version for version in versions}
    return [
        ProjectDetails(
            project=stored.project, feedback_types=stored.feedback_types, active=active.get(stored.project.id)
        )
        for stored in projects
    ]
