"""Who is behind a key, remembered: so callers are known while the database is away, and it is asked rarely else."""

import math
from collections.abc import Awaitable, Callable

from services.authz.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.access import AccessChanged
from shared.contracts.principal import Principal
from shared.errors import Unauthenticated

LookUp = Callable[[str], Awaitable[Principal | None]]
"""The caller behind a key's hash, from the database; None when there is no such key or it was revoked."""


class CallerCache:
    """Callers by the hash of their key.

    An entry outlives its freshness for as long as the database is away: nothing can be revoked in that time.
    """

    def __init__(self, look_up: LookUp, settings: Settings) -> None:
        self._look_up = look_up
        self._memory: Cache[str, Principal] = Cache(
            most=settings.callers_most, fresh_seconds=settings.caller_fresh_seconds, stale_seconds=math.inf
        )

    async def listen(self, bus: Bus) -> None:
        """Hear of changes made by other replicas. Some may be missed while offline, so coming back forgets all."""
        await bus.subscribe(AccessChanged, self._changed)

    async def who(self, key_hash: str) -> Principal:
        """The caller; Unauthenticated in the same words whether the key never was or is no more."""
        return await self._memory.get(key_hash, lambda: self._ask(key_hash))

    def forget(self, organisation: str) -> None:
        """Something changed in the organisation: ask the database again."""
        self._memory.forget(lambda _, caller: caller.organisation == organisation)

    async def _ask(self, key_hash: str) -> Principal:
        caller = await self._look_up(key_hash)
        if caller is None:
            raise Unauthenticated("The API key is missing, wrong or revoked.")
        return caller

    def _changed(self, change: AccessChanged | None) -> None:
        self._memory.forget(lambda _, caller: change is None or caller.organisation == change.organisation)
