"""Authentication: whose key is this."""

from services.authz.deps import Deps
from shared.bus import Router
from shared.contracts.access import Authenticate
from shared.contracts.principal import Principal

router = Router[Deps]()


@router.request_handler(Authenticate)
async def authenticate(query: Authenticate, deps: Deps) -> Principal:
    """Return the principal behind a key."""
    return await deps.callers.who(query.key_hash)
