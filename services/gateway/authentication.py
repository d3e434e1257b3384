"""Authenticates requests by API key: principals come from authz and are cached until `AccessChanged` drops them."""

import hashlib

from services.gateway.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.access import AccessChanged, Authenticate
from shared.contracts.principal import Principal
from shared.errors import Unauthenticated

KEY_HEADER = "X-API-KEY"


class Authenticator:
    """Principals by the hash of their API key, as authz knows them."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        self._principals: Cache[str, Principal] = Cache(
            tags=lambda _, principal: [principal.organisation],
            max_entries=10_000,
            fresh_seconds=settings.caller_fresh_seconds,
            stale_seconds=settings.stale_seconds,
        )

    async def subscribe(self) -> None:
        """Subscribe to `AccessChanged`; a reconnect drops everything, since events may be missed while disconnected."""
        await self._bus.subscribe(AccessChanged, self._on_access_changed)

    async def authenticate(self, key: str | None) -> Principal:
        """Return the principal behind `key`. Raises Unauthenticated if it is missing, wrong or revoked."""
        if not key:
            raise Unauthenticated("No API key: send it in the header X-API-KEY.")
        key_hash = hashlib.sha256(key.encode()).hexdigest()
        return await self._principals.get(key_hash, lambda: self._bus.request(Authenticate(key_hash=key_hash)))

    def _on_access_changed(self, event: AccessChanged | None) -> None:
        """Drop the principals the event concerns; None, after a reconnect, concerns all."""
        if event is None:
            self._principals.clear()
        else:
            self._principals.invalidate(event.organisation)
