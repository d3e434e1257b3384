"""The API key of a request → the principal behind it: asked of authz, cached, dropped on `AccessChanged`."""

import hashlib

from services.gateway.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.access import AccessChanged, Authenticate
from shared.contracts.principal import Principal
from shared.errors import Unauthenticated


class Authenticator:
    """Principals by the hash of their API key, as authz knows them."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        self._principals: Cache[str, Principal] = Cache(
            most=10_000, fresh_seconds=settings.caller_fresh_seconds, stale_seconds=settings.stale_seconds
        )

    async def listen(self) -> None:
        """Subscribe to changes of access. One missed while offline is why reconnecting empties the cache."""
        await self._bus.subscribe(AccessChanged, self._changed)

    async def authenticate(self, key: str | None) -> Principal:
        """Return the principal behind `key`. Raises Unauthenticated if it is missing, wrong or revoked."""
        if not key:
            raise Unauthenticated("No API key: send it in the header X-API-KEY.")
        key_hash = hashlib.sha256(key.encode()).hexdigest()
        return await self._principals.get(key_hash, lambda: self._bus.request(Authenticate(key_hash=key_hash)))

    def _changed(self, change: AccessChanged | None) -> None:
        self._principals.forget(lambda _, principal: change is None or principal.organisation == change.organisation)
