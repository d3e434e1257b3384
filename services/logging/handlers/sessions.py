"""Questions about sessions."""

from services.logging.deps import Deps
from services.logging.sessions import Presence, Tally, summary
from services.logging.trees import tree
from shared.bus import Router
from shared.contracts.logs import GetSession, GetTree, ListSessions, Session, Sessions, Tree
from shared.errors import NotFound

router = Router[Deps]()


@router.answers(GetSession)
async def get_session(query: GetSession, deps: Deps) -> Session:
    """One session with its totals."""
    await deps.position.caught_up()
    hidden = await deps.deletions.hidden(query.organisation)
    presence = await _existing(query.organisation, query.id, hidden, deps)
    return summary(presence, await deps.logs.tallies(query.organisation, [query.id], hidden))


@router.answers(ListSessions)
async def list_sessions(query: ListSessions, deps: Deps) -> Sessions:
    """A page of the sessions of a project."""
    await deps.position.caught_up()
    hidden = await deps.deletions.hidden(query.organisation)
    if query.project_id in hidden:
        return Sessions(sessions=[], total=0)
    page, total = await deps.sessions.of_project(query.organisation, query.project_id, query.page)
    tallies: dict[str, list[Tally]] = {presence.id: [] for presence in page}
    for tally in await deps.logs.tallies(query.organisation, list(tallies), hidden):
        tallies[tally.session_id].append(tally)
    return Sessions(sessions=[summary(presence, tallies[presence.id]) for presence in page], total=total)


@router.answers(GetTree)
async def get_tree(query: GetTree, deps: Deps) -> Tree:
    """The logs of a session under their parents."""
    await deps.position.caught_up()
    hidden = await deps.deletions.hidden(query.organisation)
    await _existing(query.organisation, query.session_id, hidden, deps)
    return tree(await deps.logs.members(query.organisation, query.session_id, hidden))


async def _existing(organisation: str, session_id: str, hidden: list[str], deps: Deps) -> Presence:
    """A session of which deleted projects are all there was disappears with them."""
    presence = await deps.sessions.get(organisation, session_id)
    if presence is None or (presence.project_ids and presence.project_ids.issubset(hidden)):
        raise NotFound(f"There is no session {session_id!r}.")
    return presence
