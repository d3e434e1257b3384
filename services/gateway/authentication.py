"""Credential in the request → caller and what they may do. Asks authz, remembers, forgets on `AccessChanged`."""

import hashlib

from services.gateway.settings import Settings
from shared.bus import Bus
from shared.cache import Memory
from shared.contracts.access import AccessChanged, Caller, Decision, MayThey, WhoIsThis
from shared.errors import Unauthenticated
from shared.permissions import Permission


class Callers:
    """What authz said about callers."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        self._callers: Memory[str, Caller] = Memory(
            most=10_000, fresh_seconds=settings.caller_fresh_seconds, stale_seconds=settings.stale_seconds
        )
        self._decisions: Memory[tuple[Caller, str], Decision] = Memory(
            most=100_000, fresh_seconds=settings.caller_fresh_seconds, stale_seconds=settings.stale_seconds
        )

    async def listen(self) -> None:
        """Hear of changes. A change missed while offline is why reconnecting forgets everything."""
        await self._bus.hear(AccessChanged, self._changed)

    async def identify(self, key: str | None) -> Caller:
        """The caller behind `key`. Unauthenticated when it is missing, wrong or revoked."""
        if not key:
            raise Unauthenticated("No API key: send it in the header X-API-KEY.")
        key_hash = hashlib.sha256(key.encode()).hexdigest()
        return await self._callers.get(key_hash, lambda: self._bus.ask(WhoIsThis(key_hash=key_hash)))

    async def may(self, caller: Caller, permission: Permission) -> Decision:
        """Whether the caller's role has the permission."""
        question = MayThey(caller=caller, permission=permission.name)
        return await self._decisions.get((caller, permission.name), lambda: self._bus.ask(question))

    def _changed(self, change: AccessChanged | None) -> None:
        self._callers.forget(lambda _, caller: change is None or caller.organisation == change.organisation)
        self._decisions.forget(lambda key, _: change is None or key[0].organisation == change.organisation)
