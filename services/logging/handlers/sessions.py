"""Answers queries about sessions."""

from services.logging.deps import Deps
from services.logging.sessions import SessionRecord, SessionStats, session_summary
from services.logging.trees import build_tree
from shared.bus import Router
from shared.contracts.logs import GetSession, GetTree, ListSessions, Session, Sessions, Tree
from shared.errors import NotFound

router = Router[Deps]()


@router.request_handler(GetSession)
async def get_session(query: GetSession, deps: Deps) -> Session:
    """Return one session with its totals. Raises NotFound."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.list_hidden_project_ids(query.organisation)
    record = await _visible_session(query.organisation, query.id, hidden, deps)
    return session_summary(record, await deps.logs.list_session_stats(query.organisation, [query.id], hidden))


@router.request_handler(ListSessions)
async def list_sessions(query: ListSessions, deps: Deps) -> Sessions:
    """Return a page of the sessions of a project, newest first."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.list_hidden_project_ids(query.organisation)
    if query.project_id in hidden:
        return Sessions(sessions=[], total=0)
    records, total = await deps.sessions.list_sessions(query.organisation, query.project_id, query.page)
    stats: dict[str, list[SessionStats]] = {record.id: [] for record in records}
    for row in await deps.logs.list_session_stats(query.organisation, list(stats), hidden):
        stats[row.session_id].append(row)
    return Sessions(sessions=[session_summary(record, stats[record.id]) for record in records], total=total)


@router.request_handler(GetTree)
async def get_tree(query: GetTree, deps: Deps) -> Tree:
    """Return the logs of a session under their parents. Raises NotFound if there is no such session."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.list_hidden_project_ids(query.organisation)
    await _visible_session(query.organisation, query.session_id, hidden, deps)
    return build_tree(await deps.logs.list_session_logs(query.organisation, query.session_id, hidden))


async def _visible_session(organisation: str, session_id: str, hidden: list[str], deps: Deps) -> SessionRecord:
    """Return a session. Raises NotFound also if all its projects are among the hidden, deleted ones."""
    record = await deps.sessions.get_session(organisation, session_id)
    if record is None or (record.project_ids and record.project_ids.issubset(hidden)):
        raise NotFound(f"There is no session {session_id!r}.")
    return record
