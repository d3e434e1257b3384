"""Environments: listed, made, renamed, made the default one, deleted. Decided and saved on one revision of them all."""

from collections.abc import Callable
from datetime import UTC, datetime

from services.generation.deps import Deps
from services.generation.projects.environments import EnvironmentSet
from services.generation.store import DeploymentTarget
from shared.bus import Router
from shared.contracts.generation import deployments
from shared.contracts.generation.deployments import (
    CreateEnvironment,
    DeleteEnvironment,
    Environment,
    ListEnvironments,
    UpdateEnvironment,
)
from shared.contracts.generation.projects import ProjectChanged
from shared.contracts.message import Done
from shared.errors import Conflict

router: Router[Deps] = Router()

_TRIES = 20
"""Others may change an environment in the same millisecond: then this is decided again on what they saved."""


@router.request_handler(ListEnvironments)
async def list_environments(query: ListEnvironments, deps: Deps) -> deployments.Environments:
    """All of the organisation."""
    return deployments.Environments(environments=list(await deps.environments.get(query.organisation)))


@router.request_handler(CreateEnvironment)
async def create_environment(command: CreateEnvironment, deps: Deps) -> Environment:
    """Make one."""
    now = datetime.now(UTC)
    after = await _changed(command, lambda all_: all_.with_added(command.id, command.name, now), deps)
    return after.get(command.id)


@router.request_handler(UpdateEnvironment)
async def update_environment(command: UpdateEnvironment, deps: Deps) -> Environment:
    """Rename it, make it the default one."""

    def decide(before: EnvironmentSet) -> EnvironmentSet:
        after = before
        before.get(command.id)
        if command.name is not None:
            after = after.with_renamed(command.id, command.name)
        if command.make_default:
            after = after.with_default(command.id)
        return after

    return (await _changed(command, decide, deps)).get(command.id)


@router.request_handler(DeleteEnvironment)
async def delete_environment(command: DeleteEnvironment, deps: Deps) -> Done:
    """Delete it, then note in every project that nothing is deployed there; a repeat finds what is left to note.

    In this order, because whether it is the default one is decided by saving: emptied before that, it might become the
    default one meanwhile.
    """
    organisation = command.organisation
    left = await deps.stores.deployments.list_deployed_project_ids(organisation, command.id)

    def decide(before: EnvironmentSet) -> EnvironmentSet:
        deleted = not any(place.id == command.id for place in before)
        return before if deleted and left else before.without(command.id)

    await _changed(command, decide, deps)
    for project_id in await deps.stores.deployments.list_deployed_project_ids(organisation, command.id):
        await deps.deployments.deploy(DeploymentTarget(organisation, project_id, command.id), None, command.actor)
    return Done()


async def _changed(
    command: CreateEnvironment | UpdateEnvironment | DeleteEnvironment,
    decide: Callable[[EnvironmentSet], EnvironmentSet],
    deps: Deps,
) -> EnvironmentSet:
    organisation = command.organisation
    for _ in range(_TRIES):
        before = await deps.environments.get(organisation)
        after = decide(before)
        if after is before or await deps.environments.save(after):
            break
    else:
        raise Conflict("The environments of your organisation are being changed by others. Try again.")
    change = ProjectChanged(organisation=organisation, what="environments", actor=command.actor)
    await deps.invalidation.publish(change, str(after.revision))
    return after
