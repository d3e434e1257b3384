"""Credential in the request → caller and what they may do. Asks authz, remembers, forgets on `AccessChanged`."""

import hashlib

from services.gateway.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.access import AccessChanged, Authenticate, Authorize, Caller, Decision
from shared.errors import Unauthenticated
from shared.permissions import Permission

KEY_HEADER = "X-API-KEY"


class Authenticator:
    """What authz said about callers."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        self._callers: Cache[str, Caller] = Cache(
            most=10_000, fresh_seconds=settings.caller_fresh_seconds, stale_seconds=settings.stale_seconds
        )
        self._decisions: Cache[tuple[Caller, str], Decision] = Cache(
            most=100_000, fresh_seconds=settings.caller_fresh_seconds, stale_seconds=settings.stale_seconds
        )

    async def listen(self) -> None:
        """Hear of changes. A change missed while offline is why reconnecting forgets everything."""
        await self._bus.subscribe(AccessChanged, self._changed)

    async def authenticate(self, key: str | None) -> Caller:
        """The caller behind `key`. Unauthenticated when it is missing, wrong or revoked."""
        if not key:
            raise Unauthenticated("No API key: send it in the header X-API-KEY.")
        key_hash = hashlib.sha256(key.encode()).hexdigest()
        return await self._callers.get(key_hash, lambda: self._bus.request(Authenticate(key_hash=key_hash)))

    async def may(self, caller: Caller, permission: Permission) -> Decision:
        """Whether the caller's role has the permission."""
        question = Authorize(caller=caller, permission=permission.name)
        return await self._decisions.get((caller, permission.name), lambda: self._bus.request(question))

    def _changed(self, change: AccessChanged | None) -> None:
        self._callers.forget(lambda _, caller: change is None or caller.organisation == change.organisation)
        self._decisions.forget(lambda key, _: change is None or key[0].organisation == change.organisation)
