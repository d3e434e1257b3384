"""Questions about sessions."""

from services.logging.deps import Deps
from services.logging.sessions import SessionRecord, SessionStats, summary
from services.logging.trees import tree
from shared.bus import Router
from shared.contracts.logs import GetSession, GetTree, ListSessions, Session, Sessions, Tree
from shared.errors import NotFound

router = Router[Deps]()


@router.answers(GetSession)
async def get_session(query: GetSession, deps: Deps) -> Session:
    """One session with its totals."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.hidden(query.organisation)
    session_record = await _existing(query.organisation, query.id, hidden, deps)
    return summary(session_record, await deps.logs.session_stats(query.organisation, [query.id], hidden))


@router.answers(ListSessions)
async def list_sessions(query: ListSessions, deps: Deps) -> Sessions:
    """A page of the sessions of a project."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.hidden(query.organisation)
    if query.project_id in hidden:
        return Sessions(sessions=[], total=0)
    page, total = await deps.sessions.of_project(query.organisation, query.project_id, query.page)
    session_stats: dict[str, list[SessionStats]] = {session_record.id: [] for session_record in page}
    for stats in await deps.logs.session_stats(query.organisation, list(session_stats), hidden):
        session_stats[stats.session_id].append(stats)
    return Sessions(
        sessions=[summary(session_record, session_stats[session_record.id]) for session_record in page], total=total
    )


@router.answers(GetTree)
async def get_tree(query: GetTree, deps: Deps) -> Tree:
    """The logs of a session under their parents."""
    await deps.read_barrier.wait_until_stored()
    hidden = await deps.deletions.hidden(query.organisation)
    await _existing(query.organisation, query.session_id, hidden, deps)
    return tree(await deps.logs.members(query.organisation, query.session_id, hidden))


async def _existing(organisation: str, session_id: str, hidden: list[str], deps: Deps) -> SessionRecord:
    """A session of which deleted projects are all there was disappears with them."""
    session_record = await deps.sessions.get(organisation, session_id)
    if session_record is None or (session_record.project_ids and session_record.project_ids.issubset(hidden)):
        raise NotFound(f"There is no session {session_id!r}.")
    return session_record
