"""Who is this, and may they: the two questions of every request."""

from services.authz.access import decide
from services.authz.deps import Deps
from shared.bus import Router
from shared.contracts.access import Authenticate, Authorize, Caller, Decision

router = Router[Deps]()


@router.answers(Authenticate)
async def authenticate(query: Authenticate, deps: Deps) -> Caller:
    """The caller behind a key."""
    return await deps.callers.who(query.key_hash)


@router.answers(Authorize)
async def authorize(query: Authorize, deps: Deps) -> Decision:  # noqa: ARG001 - the table of permissions is code
    """Whether a role has a permission."""
    return decide(query.caller, query.permission)
