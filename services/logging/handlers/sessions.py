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
    presence = await _existing(query.organisation, query.id, deps)
    return summary(presence, await deps.logs.tallies(query.organisation, [query.id]))


@router.answers(ListSessions)
async def list_sessions(query: ListSessions, deps: Deps) -> Sessions:
    """A page of the sessions of a project."""
    await deps.position.caught_up()
    page, total = await deps.sessions.of_project(query.organisation, query.project_id, query.page)
    tallies: dict[str, list[Tally]] = {presence.id: [] for presence in page}
    for tally in await deps.logs.tallies(query.organisation, list(tallies)):
        tallies[tally.session_id].append(tally)
    return Sessions(sessions=[summary(presence, tallies[presence.id]) for presence in page], total=total)


@router.answers(GetTree)
async def get_tree(query: GetTree, deps: Deps) -> Tree:
    """The logs of a session under their parents."""
    await deps.position.caught_up()
    await _existing(query.organisation, query.session_id, deps)
    return tree(await deps.logs.members(query.organisation, query.session_id))


async def _existing(organisation: str, session_id: str, deps: Deps) -> Presence:
    presence = await deps.sessions.get(organisation, session_id)
    if presence is None:
        raise NotFound(f"There is no session {session_id!r}.")
    return presence
