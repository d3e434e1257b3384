"""Answers commands and queries about environments. A change is decided and saved on one revision of the whole set."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from services.generation.deps import Deps
from services.generation.projects.environments import EnvironmentSet
from services.generation.store import DeploymentTarget
from shared.audit import audit_entry
from shared.bus import Router
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.audit_actions import AuditAction
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

EnvironmentCommand = CreateEnvironment | UpdateEnvironment | DeleteEnvironment

_MAX_TRIES = 20
"""Bounds repeats of a change that another change came between (optimistic locking by revision)."""


@router.answers(ListEnvironments)
async def list_environments(query: ListEnvironments, deps: Deps) -> deployments.Environments:
    """Return all environments of the organisation, the default one first."""
    return deployments.Environments(environments=list(await deps.environments.get(query.organisation)))


@router.answers(CreateEnvironment)
async def create_environment(command: CreateEnvironment, deps: Deps) -> Environment:
    """Create an environment. Raises Conflict if the name is taken, Invalid if it does not fit or there are too many."""
    now = datetime.now(UTC)
    after = await _update_set(command, lambda before: before.with_added(command.id, command.name, now), deps)
    return after.get(command.id)


@router.answers(UpdateEnvironment)
async def update_environment(command: UpdateEnvironment, deps: Deps) -> Environment:
    """Rename an environment, make it the default one, or both. Raises NotFound, or Conflict if the name is taken."""

    def decide(before: EnvironmentSet) -> EnvironmentSet:
        after = before
        before.get(command.id)
        if command.name is not None:
            after = after.with_renamed(command.id, command.name)
        if command.make_default:
            after = after.with_default(command.id)
        return after

    return (await _update_set(command, decide, deps)).get(command.id)


@router.answers(DeleteEnvironment)
async def delete_environment(command: DeleteEnvironment, deps: Deps) -> Done:
    """Delete an environment, then undeploy what is deployed in it, project by project; a repeat does what is left.

    In this order, because only saving decides that it is not the default one: if it were emptied first, it might become
    the default one meanwhile. Raises NotFound if there is no such environment, Conflict if it is the default one.
    """
    organisation = command.organisation
    deployed_in = await deps.stores.deployments.list_deployed_project_ids(organisation, command.id)

    def decide(before: EnvironmentSet) -> EnvironmentSet:
        is_deleted = not any(environment.id == command.id for environment in before)
        return before if is_deleted and deployed_in else before.without(command.id)

    await _update_set(command, decide, deps)
    for project_id in await deps.stores.deployments.list_deployed_project_ids(organisation, command.id):
        await deps.deployments.deploy(DeploymentTarget(organisation, project_id, command.id), None, command.principal)
    return Done()


async def _update_set(
    command: EnvironmentCommand,
    decide: Callable[[EnvironmentSet], EnvironmentSet],
    deps: Deps,
) -> EnvironmentSet:
    """Save what `decide` makes of the stored set, publish the change, and return the set.

    `decide` is called again if another change was saved meanwhile. Raises Conflict if that happens 20 times.
    """
    organisation = command.organisation
    for _ in range(_MAX_TRIES):
        before = await deps.environments.get(organisation)
        after = decide(before)
        if after is before or await _save(command, before, after, deps):
            break
    else:
        raise Conflict("The environments of your organisation are being changed by others. Try again.")
    change = ProjectChanged(organisation=organisation, what="environments", actor=command.actor)
    await deps.invalidation.publish(change, str(after.revision))
    return after


async def _save(command: EnvironmentCommand, before: EnvironmentSet, after: EnvironmentSet, deps: Deps) -> bool | None:
    """Save a change with its entries in the audit log; return whether it was saved."""
    return await deps.audit.record(
        lambda session: deps.environments.save(after, session), lambda _: list(_entries(command, before, after))
    )


def _entries(command: EnvironmentCommand, before: EnvironmentSet, after: EnvironmentSet) -> Iterator[AuditEntry]:
    """Yield an entry for each difference between two revisions of the environments."""
    old, new = ({environment.id: environment for environment in each} for each in (before, after))

    def entry(action: AuditAction, environment: Environment, **details: str) -> AuditEntry:
        changed = AuditObject(kind="environment", id=environment.id, name=environment.name)
        cause = [str(after.revision)]
        return audit_entry(action, command.principal, command.organisation, changed, cause, {**details})

    for identifier in new.keys() - old.keys():
        yield entry("environment.created", new[identifier])
    for identifier in old.keys() - new.keys():
        yield entry("environment.deleted", old[identifier])
    for identifier in old.keys() & new.keys():
        if old[identifier].name != new[identifier].name:
            yield entry("environment.renamed", new[identifier], **{"from": old[identifier].name})
    if before.default.id != after.default.id:
        yield entry("environment.made_default", after.default, instead_of=before.default.name)
