"""Answers queries about logs."""

from services.logging.deps import Deps
from services.logging.session_resolution import LogKey
from shared.bus import Router
from shared.contracts.logs import (
    ConfigUse,
    FeedbackOfLogs,
    GetConfigUse,
    GetFeedback,
    GetLog,
    GetSessionsOfLogs,
    GetUses,
    Logs,
    SearchLogs,
    SessionsOfLogs,
    StoredLog,
    Uses,
)
from shared.errors import NotFound
from shared.permissions import has_project

router = Router[Deps]()


@router.answers(GetLog)
async def get_log(query: GetLog, deps: Deps) -> StoredLog:
    """Return one log. Raises NotFound if there is none with this id, or its project is deleted."""
    await deps.read_barrier.wait_until_stored()
    log = await deps.logs.get_log(query.organisation, query.id)
    if (
        log is None
        or not has_project(query.principal, log.project_id)
        or log.project_id in await deps.deletions.list_hidden_project_ids(query.organisation)
    ):
        raise NotFound(f"There is no log {query.id!r}.")
    return log


@router.answers(SearchLogs)
async def search_logs(query: SearchLogs, deps: Deps) -> Logs:
    """Return a page of the logs of a project that match the search."""
    await deps.read_barrier.wait_until_stored()
    if query.project_id in await deps.deletions.list_hidden_project_ids(query.organisation):
        return Logs(logs=[], total=0)
    return await deps.logs.search_logs(query.organisation, query)


@router.answers(GetFeedback)
async def get_feedback(query: GetFeedback, deps: Deps) -> FeedbackOfLogs:
    """Return the projects of logs, and their feedback in effect of the types asked for."""
    complete = await deps.read_barrier.is_stored_in_time()
    hidden = await deps.deletions.list_hidden_project_ids(query.organisation)
    logs = await deps.logs.list_feedback(query.organisation, query.log_ids, query.types)
    deleted = await deps.log_deletions.list_tombstones(query.organisation, query.log_ids)
    visible = [log for log in logs if log.project_id not in hidden and has_project(query.principal, log.project_id)]
    return FeedbackOfLogs(logs=visible, deleted_ids=deleted, complete=complete)


@router.answers(GetSessionsOfLogs)
async def get_sessions_of_logs(query: GetSessionsOfLogs, deps: Deps) -> SessionsOfLogs:
    """Return the sessions of stored logs: those a child stored now would inherit, so logs of deleted projects count."""
    await deps.read_barrier.wait_until_stored()
    assignments = await deps.logs.get_many_assignments(LogKey(query.organisation, log_id) for log_id in query.log_ids)
    return SessionsOfLogs(sessions={key.id: assignment.session_id for key, assignment in assignments.items()})


@router.answers(GetConfigUse)
async def get_config_use(query: GetConfigUse, deps: Deps) -> ConfigUse:
    """Return log count and last use of a config version."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.list_hidden_project_ids(query.organisation)
    return await deps.logs.get_config_use(query.organisation, query.config_id, hidden, _projects_of(query))


@router.answers(GetUses)
async def get_uses(query: GetUses, deps: Deps) -> Uses:
    """Return log counts and last uses of projects and config versions."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.list_hidden_project_ids(query.organisation)
    return Uses(
        projects=await deps.logs.get_many_uses(
            query.organisation, "project_id", query.project_ids, hidden, _projects_of(query)
        ),
        configs=await deps.logs.get_many_uses(
            query.organisation, "config_id", query.config_ids, hidden, _projects_of(query)
        ),
    )


def _projects_of(query: GetConfigUse | GetUses) -> tuple[str, ...] | None:
    """Return the projects that the key of the principal is limited to; None: all."""
    return None if query.principal is None else query.principal.projects
