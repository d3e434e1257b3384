"""Reads what was spent, for calls that may go on only if it is below their budgets."""

import asyncio
from collections.abc import Iterable
from typing import Protocol
from weakref import WeakValueDictionary

from services.generation.store import SpendKey


class SpendStore(Protocol):
    """What the reader needs of `UsageStore`."""

    async def get_spend(self, keys: Iterable[SpendKey]) -> dict[SpendKey, int]: ...


class SpendReader:
    """Reads totals, one read of an organisation at a time: who comes while one is under way shares the next.

    So each caller gets what was stored after it came: all that was booked before.
    """

    def __init__(self, store: SpendStore) -> None:
        self._store = store
        self._next: dict[str, tuple[set[SpendKey], asyncio.Task[dict[SpendKey, int]]]] = {}
        """The reads that have not begun, by organisation."""
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def read(self, organisation: str, keys: Iterable[SpendKey]) -> dict[SpendKey, int]:
        """Return nano-dollars by key, at least those that are asked for. Raises Unavailable."""
        if (waiting := self._next.get(organisation)) is None:
            wanted: set[SpendKey] = set()
            task = asyncio.create_task(self._read(organisation, wanted))
            task.add_done_callback(_retrieve_exception)
            waiting = self._next[organisation] = (wanted, task)
        waiting[0].update(keys)
        return await asyncio.shield(waiting[1])

    async def _read(self, organisation: str, wanted: set[SpendKey]) -> dict[SpendKey, int]:
        lock = self._reading.setdefault(organisation, asyncio.Lock())
        async with lock:
            del self._next[organisation]
            return await self._store.get_spend(wanted)


def _retrieve_exception(task: "asyncio.Task[dict[SpendKey, int]]") -> None:
    """Keep asyncio from warning of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
