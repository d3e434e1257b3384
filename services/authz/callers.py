"""Caches the principals behind API keys: saves queries, and lets callers authenticate while the database is away."""

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
"""Returns the principal behind a key's hash from the database; None if there is no such key or it was revoked."""


class CallerCache:
    """Principals by the hash of their key.

    A stale entry is used for as long as the database is away: nothing can be revoked in that time.
    """

    def __init__(self, find_principal: FindPrincipal, settings: Settings) -> None:
        self._find_principal = find_principal
        self._cache: Cache[str, Principal] = Cache(
            tags=lambda _, principal: [principal.organisation],
            max_entries=settings.callers_most,
            fresh_seconds=settings.caller_fresh_seconds,
            stale_seconds=math.inf,
        )

    async def subscribe(self, bus: Bus) -> None:
        """Subscribe to `AccessChanged` of other replicas; a reconnect drops everything, since events may be missed."""
        await bus.subscribe(AccessChanged, self._on_access_changed)

    async def get_principal(self, key_hash: str) -> Principal:
        """Return the principal behind a key's hash.

        Raises Unauthenticated if there is none, with one message for unknown and revoked keys; or if it has expired.
        """
        principal = await self._cache.get(key_hash, lambda: self._find(key_hash))
        check_valid_now(principal)
        return principal

    def invalidate(self, organisation: str) -> None:
        """Drop the cached principals of an organisation, after a change of its keys or roles."""
        self._cache.invalidate(organisation)

    async def _find(self, key_hash: str) -> Principal:
        principal = await self._find_principal(key_hash)
        if principal is None:
            raise Unauthenticated("The API key is missing, wrong or revoked.")
        return principal

    def _on_access_changed(self, event: AccessChanged | None) -> None:
        """Drop the principals the event concerns; None, after a reconnect, concerns all."""
        if event is None:
            self._cache.clear()
        else:
            self._cache.invalidate(event.organisation)
