"""Answers `Authenticate`."""

from services.authz.deps import Deps
from shared.bus import Router
from shared.contracts.access.authentication import Authenticate
from shared.contracts.principal import Principal

router = Router[Deps]()


@router.answers(Authenticate)
async def authenticate(query: Authenticate, deps: Deps) -> Principal:
    """Return the principal behind the hash of an API key.

    Raises Unauthenticated if it is unknown, revoked or expired.
    """
    principal = await deps.callers.get_principal(query.key_hash)
    if principal.key_id:
        deps.key_uses.note(principal.key_id)
    return principal
