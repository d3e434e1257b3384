"""A read-through cache of answers of another service or of the database, which keeps them off the hot path.

An entry is returned while it is fresh. After that it is refreshed, by one request for all callers; while that raises
Unavailable, the old entry is returned until it is stale: a service that is away cannot have changed it.

Entries are invalidated by tag (an organisation, a project of it), in constant time: every invalidation has a number,
and an entry is valid only if it was requested after the last invalidation of each of its tags.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic_core import to_json

from shared.errors import Problem, Unavailable

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_REFRESH_TIMEOUT_SECONDS = 0.5
"""How long a caller waits for a refresh before it gets the old entry."""
_RETRY_AFTER_SECONDS = 5.0
"""How long an entry is returned after a refresh failed, before the next try."""
_BYTES_PER_ELEMENT = 100
"""Of an object in a list, a dict or a model: a config of 60,000 small tools is 5 MB of JSON and 100 MB of objects."""
_MAX_TAGS = 10_000
"""Invalidated tags whose number is kept; when the oldest is dropped, so is everything requested before it."""


_KEY_TAG = object()
"""Every answer is also tagged with its own key, for `discard`."""


@dataclass
class _Entry(Generic[V]):
    value: V
    tags: tuple[Hashable, ...]
    number: int
    """Of the last invalidation when it was requested."""
    requested_at: float
    fresh_until: float
    size: int


@dataclass
class _Request(Generic[V]):
    """A request under way."""

    task: "asyncio.Task[V]"
    number: int
    """Of the last invalidation when it was sent."""


class Cache(Generic[K, V]):
    """At most `max_entries` answers; the least recently used are evicted first.

    `tags` returns the tags that invalidate an answer, from its key and value. Where answers may be large, `max_bytes`
    bounds the memory of all together, as `_estimate_bytes` estimates it.
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
        """Number of the last invalidation."""
        self._invalidated: OrderedDict[Hashable, int] = OrderedDict()
        """The number of each tag's last invalidation, the oldest first."""
        self._all_invalidated = 0
        """What was requested before this invalidation is void, whatever its tags."""

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        """Return the answer for `key`; call `fetch` if none is fresh. Raises what `fetch` raises."""
        entry = self._valid_entry(key)
        now = time.monotonic()
        if entry is not None and now < entry.fresh_until:
            self._entries.move_to_end(key)
            return entry.value
        task = self._request(key, fetch)
        if entry is None or now > entry.requested_at + self._stale_seconds:
            return await asyncio.shield(task)
        try:
            async with asyncio.timeout(_REFRESH_TIMEOUT_SECONDS):
                return await asyncio.shield(task)
        except (Unavailable, TimeoutError):
            entry.fresh_until = min(now + _RETRY_AFTER_SECONDS, entry.requested_at + self._stale_seconds)
            return entry.value

    def invalidate(self, tag: Hashable) -> None:
        """Drop the answers with this tag. Requests under way still return to their callers, and are not kept."""
        self._number += 1
        self._invalidated[tag] = self._number
        self._invalidated.move_to_end(tag)
        if len(self._invalidated) > _MAX_TAGS:
            _, self._all_invalidated = self._invalidated.popitem(last=False)

    def discard(self, key: K) -> None:
        """Drop the answer for one key, and do not keep that of a request under way."""
        self.invalidate((_KEY_TAG, key))

    def clear(self) -> None:
        """Drop every answer."""
        self._number += 1
        self._all_invalidated = self._number
        self._invalidated.clear()
        self._entries.clear()
        self._bytes = 0

    def _valid_entry(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is None or self._is_valid(entry.tags, entry.number):
            return entry
        self._drop(key)
        return None

    def _is_valid(self, tags: tuple[Hashable, ...], number: int) -> bool:
        """Return whether what was requested at `number` is newer than the invalidations of its tags."""
        return number >= self._all_invalidated and all(self._invalidated.get(tag, 0) <= number for tag in tags)

    def _request(self, key: K, fetch: Callable[[], Awaitable[V]]) -> "asyncio.Task[V]":
        """Return the request under way, or a new one if something was invalidated since: its tags are not known yet."""
        request = self._requests.get(key)
        if request is None or request.number != self._number:
            task = asyncio.create_task(self._fetch(key, fetch, self._number))
            task.add_done_callback(_retrieve_exception)
            request = self._requests[key] = _Request(task, self._number)
        return request.task

    async def _fetch(self, key: K, fetch: Callable[[], Awaitable[V]], number: int) -> V:
        try:
            value = await fetch()
        except Unavailable:
            raise
        except Exception:
            if self._is_newest(key):
                self._drop(key)
            raise
        else:
            tags = (*self._tags(key, value), (_KEY_TAG, key))
            entry = self._entries.get(key)
            # An answer is kept although another was requested since, if nothing that concerns it was invalidated.
            if self._is_valid(tags, number) and (entry is None or entry.number <= number):
                self._put(key, value, tags, number)
            return value
        finally:
            if self._is_newest(key):
                del self._requests[key]

    def _is_newest(self, key: K) -> bool:
        """Return whether the running task is the last request for the key."""
        request = self._requests.get(key)
        return request is not None and request.task is asyncio.current_task()

    def _put(self, key: K, value: V, tags: tuple[Hashable, ...], number: int) -> None:
        self._drop(key)
        size = 0 if self._max_bytes == math.inf else _estimate_bytes(value)
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


def _estimate_bytes(value: object) -> int:
    """Return about how much memory a value takes: its JSON, and what each element or field in it takes besides."""
    written = to_json(value)
    return len(written) + _BYTES_PER_ELEMENT * written.count(b",")


def _retrieve_exception(task: "asyncio.Task[V]") -> None:
    """Log a defect: its callers may all have got the old entry, or left. A problem is for them alone."""
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, Problem):
        logger.error("a refresh failed", exc_info=error)
