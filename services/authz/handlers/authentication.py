"""Answers who is behind an API key or a browser session, and counts their requests."""

from limits import RateLimitItemPerMinute

from services.authz.deps import Deps
from shared.bus import Router
from shared.contracts.access.authentication import Authenticate, AuthenticateSession, LeaseRequests, RequestLease
from shared.contracts.principal import Principal

router = Router[Deps]()


@router.answers(Authenticate)
async def authenticate(query: Authenticate, deps: Deps) -> Principal:
    """Return the principal behind the hash of an API key.

    Raises Unauthenticated if it is unknown, revoked or expired.
    """
    principal = await deps.callers.get_by_key(query.key_hash)
    if principal.key_id:
        deps.key_uses.note(principal.key_id)
    return principal


@router.answers(AuthenticateSession)
async def authenticate_session(query: AuthenticateSession, deps: Deps) -> Principal:
    """Return the signed-in member behind the hash of a session's secret.

    Raises Unauthenticated if it is unknown, ended or expired.
    """
    principal = await deps.callers.get_by_session(query.session_hash)
    if principal.session_id:
        deps.session_uses.note(principal.session_id)
    return principal


@router.answers(LeaseRequests)
async def lease_requests(command: LeaseRequests, deps: Deps) -> RequestLease:
    """Count requests ahead, and return how many of them the gateway may accept."""
    limit = RateLimitItemPerMinute(command.limit, 1, namespace=f"requests-{command.scope}")
    lease = await deps.rate_limits.lease(limit, command.name, command.count)
    return RequestLease(granted=lease.granted, seconds_left=lease.seconds_left)
