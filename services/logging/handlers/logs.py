"""Questions about logs."""

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

router = Router[Deps]()


@router.answers(GetLog)
async def get_log(query: GetLog, deps: Deps) -> StoredLog:
    """One log."""
    await deps.read_barrier.wait_until_stored()
    log = await deps.logs.get(query.organisation, query.id)
    if log is None or log.project_id in await deps.deletions.hidden(query.organisation):
        raise NotFound(f"There is no log {query.id!r}.")
    return log


@router.answers(SearchLogs)
async def search_logs(query: SearchLogs, deps: Deps) -> Logs:
    """A page of the logs of a project."""
    await deps.read_barrier.wait_until_stored()
    if query.project_id in await deps.deletions.hidden(query.organisation):
        return Logs(logs=[], total=0)
    return await deps.logs.search(query.organisation, query)


@router.answers(GetFeedback)
async def get_feedback(query: GetFeedback, deps: Deps) -> FeedbackOfLogs:
    """Where logs belong, and what is said about them."""
    complete = await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.hidden(query.organisation)
    logs = await deps.logs.feedback(query.organisation, query.log_ids, query.types)
    return FeedbackOfLogs(logs=[log for log in logs if log.project_id not in hidden], complete=complete)


@router.answers(GetSessionsOfLogs)
async def get_homes(query: GetSessionsOfLogs, deps: Deps) -> SessionsOfLogs:
    """Which sessions logs belong to: what a child that is stored now would be told, so deleted projects count, too."""
    await deps.read_barrier.wait_until_stored()
    assignments = await deps.logs.assignments(LogKey(query.organisation, log_id) for log_id in query.log_ids)
    return SessionsOfLogs(sessions={key.id: assignment.session_id for key, assignment in assignments.items()})


@router.answers(GetConfigUse)
async def get_config_use(query: GetConfigUse, deps: Deps) -> ConfigUse:
    """How much a config version was used."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.hidden(query.organisation)
    return await deps.logs.use(query.organisation, query.config_id, hidden)


@router.answers(GetUses)
async def get_uses(query: GetUses, deps: Deps) -> Uses:
    """How much projects and config versions were used."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.hidden(query.organisation)
    return Uses(
        projects=await deps.logs.uses(query.organisation, "project_id", query.project_ids, hidden),
        configs=await deps.logs.uses(query.organisation, "config_id", query.config_ids, hidden),
    )
