"""Answers of another service or of the database, remembered for a while, so that the hot path asks nobody.

An entry is used while fresh. After that it is asked for again, once for all who wait; if nobody answers, the old
entry serves on: what the entry says cannot have been changed by a service that is away.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar, cast

from pydantic_core import to_json

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
    size: int


def _heard(task: "asyncio.Task[V]") -> None:
    """Whoever served from memory meanwhile does not want to know how the refresh failed."""
    if not task.cancelled():
        task.exception()


class _Pending:
    """The value of a question under way. It has nothing to look at, so whatever looks at it fails."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, _: object) -> NoReturn:
        raise TypeError("not known yet")

    def __bool__(self) -> NoReturn:
        raise TypeError("not known yet")


class Cache(Generic[K, V]):
    """At most `most` answers, the longest unused forgotten first.

    Where one may be large, `most_bytes` bounds them all together: bytes of JSON, of which memory takes a few times as
    many where it is made of small pieces.
    """

    def __init__(self, *, most: int, fresh_seconds: float, stale_seconds: float, most_bytes: float = math.inf) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
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
            self._drop(key)
            raise
        else:
            if self._asking.get(key) is asyncio.current_task():
                self._remember(key, value)
            return value
        finally:
            if self._asking.get(key) is asyncio.current_task():
                del self._asking[key]

    def _remember(self, key: K, value: V) -> None:
        self._drop(key)
        size = 0 if self._most_bytes == math.inf else len(to_json(value))
        if size > self._most_bytes:
            return
        now = time.monotonic()
        self._entries[key] = _Entry(value, now, now + self._fresh_seconds, size)
        self._bytes += size
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: K) -> None:
        if entry := self._entries.pop(key, None):
            self._bytes -= entry.size

    def forget(self, concerns: Callable[[K, V], bool]) -> None:
        """Drop what `concerns` says; nor is an answer under way remembered that may be older than the change.

        Of a question under way the key is known and the value is not. If the key does not settle it, the question
        counts as concerned: it is answered, but who asks from now on asks anew. So let `concerns` look at the key
        first, and not use `is` or `isinstance` on the value.
        """
        for key in [key for key, entry in self._entries.items() if concerns(key, entry.value)]:
            self._drop(key)
        for key in [key for key in self._asking if _may_concern(concerns, key)]:
            del self._asking[key]


def _may_concern(concerns: Callable[[K, V], bool], key: K) -> bool:
    try:
        return concerns(key, cast("V", _Pending()))
    except Exception:  # noqa: BLE001 - however it fails, it looked at the value
        return True
