"""Caches the principals behind API keys and sessions: saves queries, and knows them while the database is away."""

import math
from collections.abc import Awaitable, Callable

from services.authz.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.access.authentication import AccessChanged
from shared.contracts.principal import Principal
from shared.errors import Unauthenticated
from shared.permissions import check_valid_now

FindPrincipal = Callable[[str], Awaitable[Principal | None]]
"""Returns the principal behind the hash of a secret from the database; None if there is none."""


class CallerCache:
    """Principals by the hash of the secret of their key or session.

    A stale entry is used for as long as the database is away: nothing can be revoked in that time.
    """

    def __init__(self, find_by_key: FindPrincipal, find_by_session: FindPrincipal, settings: Settings) -> None:
        self._find_by_key = find_by_key
        self._find_by_session = find_by_session
        self._cache: Cache[str, Principal] = Cache(
            tags=lambda _, principal: [principal.organisation],
            max_entries=settings.callers_most,
            fresh_seconds=settings.caller_fresh_seconds,
            stale_seconds=math.inf,
        )

    async def subscribe(self, bus: Bus) -> None:
        """Subscribe to `AccessChanged` of other replicas; a reconnect drops everything, since events may be missed."""
        await bus.subscribe(AccessChanged, self._on_access_changed)

    async def get_by_key(self, key_hash: str) -> Principal:
        """Return the principal behind a key's hash.

        Raises Unauthenticated if there is none, with one message for unknown and revoked keys; or if it has expired.
        """
        return await self._get(key_hash, self._find_by_key, "The API key is missing, wrong or revoked.")

    async def get_by_session(self, session_hash: str) -> Principal:
        """Return the principal behind a session's hash. Raises Unauthenticated if it is unknown, ended or expired."""
        return await self._get(session_hash, self._find_by_session, "You are signed out. Sign in again.")

    def invalidate(self, organisation: str) -> None:
        """Drop the cached principals of an organisation, after a change of its keys, sessions or roles."""
        self._cache.invalidate(organisation)

    async def _get(self, secret_hash: str, find: FindPrincipal, message: str) -> Principal:
        async def fetch() -> Principal:
            principal = await find(secret_hash)
            if principal is None:
                raise Unauthenticated(message)
            return principal

        principal = await self._cache.get(secret_hash, fetch)
        check_valid_now(principal)
        return principal

    def _on_access_changed(self, event: AccessChanged | None) -> None:
        """Drop the principals the event concerns; None, after a reconnect, concerns all."""
        if event is None:
            self._cache.clear()
        else:
            self._cache.invalidate(event.organisation)
