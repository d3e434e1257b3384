"""Answers of another service or of the database, remembered for a while, so that the hot path asks nobody.

An entry is used while fresh. After that it is asked for again, once for all who wait; if nobody answers, the old
entry serves on: what the entry says cannot have been changed by a service that is away.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.errors import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_REFRESH_SECONDS = 0.5
"""How long a refresh may keep a caller waiting who could be served from memory."""
_RESPITE_SECONDS = 5.0
"""How long an entry serves after a refresh failed, before the next try."""


@dataclass
class _Entry(Generic[V]):
    value: V
    asked_at: float
    fresh_until: float


def _heard(task: "asyncio.Task[V]") -> None:
    """Whoever served from memory meanwhile does not want to know how the refresh failed."""
    if not task.cancelled():
        task.exception()


class Memory(Generic[K, V]):
    """At most `most` answers, the longest unused forgotten first."""

    def __init__(self, *, most: int, fresh_seconds: float, stale_seconds: float) -> None:
        self._most = most
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer for `key`; `ask` is called when it is not known or no longer fresh."""
        entry = self._entries.get(key)
        now = time.monotonic()
        if entry is not None and now < entry.fresh_until:
            self._entries.move_to_end(key)
            return entry.value
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, ask))
            task.add_done_callback(_heard)
        if entry is None or now > entry.asked_at + self._stale_seconds:
            return await asyncio.shield(task)
        try:
            async with asyncio.timeout(_REFRESH_SECONDS):
                return await asyncio.shield(task)
        except (Unavailable, TimeoutError):
            entry.fresh_until = now + _RESPITE_SECONDS
            return entry.value

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        try:
            value = await ask()
        except Unavailable:
            raise
        except Exception:
            self._entries.pop(key, None)
            raise
        else:
            now = time.monotonic()
            if self._asking.get(key) is asyncio.current_task():
                self._entries[key] = _Entry(value, now, now + self._fresh_seconds)
                self._entries.move_to_end(key)
                while len(self._entries) > self._most:
                    self._entries.popitem(last=False)
            return value
        finally:
            if self._asking.get(key) is asyncio.current_task():
                del self._asking[key]

    def forget(self, concerns: Callable[[K, V], bool]) -> None:
        """Drop what `concerns` says; answers under way are not remembered either, they may be older than the change."""
        for key in [key for key, entry in self._entries.items() if concerns(key, entry.value)]:
            del self._entries[key]
        self._asking.clear()
