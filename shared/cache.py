"""A read-through cache of answers of another service or of the database, so that the hot path asks nobody.

An entry serves while it is fresh. After that it is refreshed, once for all who wait; while nobody answers, the old
entry serves on until it is stale: what it says cannot have been changed by a service that is away.

Entries are invalidated by tag (an organisation, a project of it), in constant time: every invalidation has a number,
and an entry counts only if it was asked for after the last invalidation of each of its tags.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic_core import to_json

from shared.errors import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_REFRESH_TIMEOUT_SECONDS = 0.5
"""How long a refresh may keep a caller waiting whom the old entry could serve."""
_RETRY_AFTER_SECONDS = 5.0
"""How long an entry serves after a refresh failed, before the next try."""
_MAX_TAGS = 10_000
"""Invalidated tags whose number is kept; when the oldest is dropped, so is everything asked for before it."""


@dataclass
class _Entry(Generic[V]):
    value: V
    tags: tuple[Hashable, ...]
    number: int
    """The newest invalidation when it was asked for."""
    asked_at: float
    fresh_until: float
    size: int


@dataclass
class _Request(Generic[V]):
    """A question under way."""

    task: "asyncio.Task[V]"
    number: int
    """The newest invalidation when it was asked."""


class Cache(Generic[K, V]):
    """At most `max_entries` answers; the least recently used are evicted first.

    `tags` names what may invalidate an answer, from its key and value. Where answers may be large, `max_bytes` bounds
    them all together: bytes of JSON, of which memory takes a few times as many.
    """

    def __init__(
        self,
        *,
        tags: Callable[[K, V], Iterable[Hashable]],
        max_entries: int,
        fresh_seconds: float,
        stale_seconds: float,
        max_bytes: float = math.inf,
    ) -> None:
        self._tags = tags
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._requests: dict[K, _Request[V]] = {}
        self._number = 0
        """Counts the invalidations."""
        self._invalidated: OrderedDict[Hashable, int] = OrderedDict()
        """The number of each tag's last invalidation, the oldest first."""
        self._all_invalidated = 0
        """What was asked for before this number does not count, whatever its tags."""

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """Return the answer for `key`; call `ask` if there is none, or none that is fresh. Raises what `ask` raises."""
        entry = self._valid_entry(key)
        now = time.monotonic()
        if entry is not None and now < entry.fresh_until:
            self._entries.move_to_end(key)
            return entry.value
        task = self._request(key, ask)
        if entry is None or now > entry.asked_at + self._stale_seconds:
            return await asyncio.shield(task)
        try:
            async with asyncio.timeout(_REFRESH_TIMEOUT_SECONDS):
                return await asyncio.shield(task)
        except (Unavailable, TimeoutError):
            entry.fresh_until = now + _RETRY_AFTER_SECONDS
            return entry.value

    def invalidate(self, tag: Hashable) -> None:
        """Drop the answers with this tag, those under way too: they are given to who asked, and not kept."""
        self._number += 1
        self._invalidated[tag] = self._number
        self._invalidated.move_to_end(tag)
        if len(self._invalidated) > _MAX_TAGS:
            _, self._all_invalidated = self._invalidated.popitem(last=False)

    def discard(self, key: K) -> None:
        """Drop the answer for one key, one under way too."""
        self._drop(key)
        self._requests.pop(key, None)

    def clear(self) -> None:
        """Drop every answer."""
        self._number += 1
        self._all_invalidated = self._number
        self._invalidated.clear()
        self._entries.clear()
        self._bytes = 0

    def _valid_entry(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is None or self._counts(entry.tags, entry.number):
            return entry
        self._drop(key)
        return None

    def _counts(self, tags: tuple[Hashable, ...], number: int) -> bool:
        """Whether what was asked for at `number` is newer than the invalidations of its tags."""
        return number >= self._all_invalidated and all(self._invalidated.get(tag, 0) <= number for tag in tags)

    def _request(self, key: K, ask: Callable[[], Awaitable[V]]) -> "asyncio.Task[V]":
        """Ask, or join the question under way unless something was invalidated since: its tags are not known yet."""
        request = self._requests.get(key)
        if request is None or request.number != self._number:
            task = asyncio.create_task(self._ask(key, ask, self._number))
            task.add_done_callback(_retrieve_exception)
            request = self._requests[key] = _Request(task, self._number)
        return request.task

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]], number: int) -> V:
        try:
            value = await ask()
        except Unavailable:
            raise
        except Exception:
            if self._is_newest(key):
                self._drop(key)
            raise
        else:
            tags = tuple(self._tags(key, value))
            if self._is_newest(key) and self._counts(tags, number):
                self._put(key, value, tags, number)
            return value
        finally:
            if self._is_newest(key):
                del self._requests[key]

    def _is_newest(self, key: K) -> bool:
        """Whether the running task is the last that was asked for the key."""
        request = self._requests.get(key)
        return request is not None and request.task is asyncio.current_task()

    def _put(self, key: K, value: V, tags: tuple[Hashable, ...], number: int) -> None:
        self._drop(key)
        size = 0 if self._max_bytes == math.inf else len(to_json(value))
        if size > self._max_bytes:
            return
        now = time.monotonic()
        self._entries[key] = _Entry(value, tags, number, now, now + self._fresh_seconds, size)
        self._bytes += size
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: K) -> None:
        if entry := self._entries.pop(key, None):
            self._bytes -= entry.size


def _retrieve_exception(task: "asyncio.Task[V]") -> None:
    """Mark a failed refresh as seen: who was served the old entry does not want to know, and asyncio would log it."""
    if not task.cancelled():
        task.exception()
