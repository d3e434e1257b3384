"""All connections of the process: how many there may be, which one is closed for a new one, and which ones are stalled.

A connection *waits* while the server owes it nothing: it has sent no request, part of one, or none since its last
response. Waiting connections cost their sender nothing, so they are the ones that are closed for others.
"""

import asyncio
import logging
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from services.gateway.server.client_address import TrustedProxies
from services.gateway.server.refusals import RefusalLog
from services.gateway.settings import Settings

logger = logging.getLogger(__name__)

PROGRESS_BYTES = 64 * 1024
"""What a body or an unread response must move by in the time a setting gives it."""
_SWEEP_SECONDS = 1.0
_RESERVED_FILES = 256
"""Open files of the process beside its HTTP connections: NATS, logs, libraries."""


@dataclass(frozen=True)
class Limits:
    """The bounds of one connection. Sizes in bytes, times in seconds."""

    head: int
    """Request line and headers; trailers."""
    body: int
    head_seconds: float
    body_seconds: float
    write_seconds: float

    @classmethod
    def from_settings(cls, settings: Settings) -> "Limits":
        """Return the limits that the settings name."""
        return cls(
            head=settings.http_head_bytes,
            body=settings.body_limit_bytes,
            head_seconds=settings.http_head_seconds,
            body_seconds=settings.http_body_seconds,
            write_seconds=settings.http_write_seconds,
        )


class Connection(Protocol):
    """What this module needs of a connection."""

    address: str
    """Of the peer."""

    def evict(self) -> None:
        """Close, because a newer connection needs the place."""

    def close_if_overdue(self, now: float) -> None:
        """Close if the time for the head, or for the next part of the body, is over."""

    def abort_if_not_closed(self, now: float) -> None:
        """Abort if it is to be closed, and the peer does not take what is written to it."""

    def abort_if_unread(self, now: float) -> None:
        """Abort if the peer does not read what is written to it."""

    def abort_unread(self) -> None:
        """Abort, because a newer connection needs the place, and the peer reads slowly."""


class Connections:
    """The open connections. Adding one never fails while another one waits."""

    def __init__(self, settings: Settings) -> None:
        self.limits = Limits.from_settings(settings)
        self.log = RefusalLog()
        self._max_open = min(settings.http_connections, _raise_file_limit(settings.http_connections))
        self._max_waiting = settings.http_waiting_per_address
        self._trusted = TrustedProxies(settings.http_trusted_proxies)
        self._open: set[Connection] = set()
        self._waiting: dict[str, dict[Connection, None]] = {}
        """By address; the one that has waited longest, without any progress, first."""
        self._unread: dict[Connection, None] = {}
        """Those with more written to them than the socket takes; the one for longest first."""

    def add(self, connection: Connection) -> bool:
        """Count a new connection, which waits. If there are too many, close the one that has waited longest, or if none
        waits the one that has read too slowly for longest; of the address that has most of them.

        Returns False if there is no place, because every connection has a request in hand.
        """
        self._open.add(connection)
        waiting = self._waiting.get(connection.address, {})
        if len(self._open) > self._max_open:
            if self._waiting:
                largest = max(self._waiting.values(), key=lambda connections: len(connections))  # noqa: PLW0108 - mypy
                next(iter(largest)).evict()
            elif self._unread:
                [(address, _)] = Counter(unread.address for unread in self._unread).most_common(1)
                next(unread for unread in self._unread if unread.address == address).abort_unread()
            else:
                return False
        elif len(waiting) >= self._max_waiting and not self._trusted.contains(connection.address):
            next(iter(waiting)).evict()
        self.wait(connection)
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self.stop_waiting(connection)
        self.resume_writing(connection)

    def wait(self, connection: Connection) -> None:
        """Note that a connection waits, from now on."""
        waiting = self._waiting.setdefault(connection.address, {})
        waiting.pop(connection, None)
        waiting[connection] = None

    def stop_waiting(self, connection: Connection) -> None:
        """Note that a connection has sent a request and waits no more."""
        waiting = self._waiting.get(connection.address)
        if waiting is not None:
            waiting.pop(connection, None)
            if not waiting:
                del self._waiting[connection.address]

    def pause_writing(self, connection: Connection) -> None:
        """Note that the peer reads more slowly than is written to it."""
        self._unread[connection] = None

    def resume_writing(self, connection: Connection) -> None:
        """Note that the peer has read it."""
        self._unread.pop(connection, None)

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    async def sweep(self) -> None:
        """Close, again and again, the connections whose time is over. Runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in [connection for waiting in self._waiting.values() for connection in waiting]:
                connection.close_if_overdue(now)
            for connection in list(self._open):
                connection.abort_if_not_closed(now)
            for connection in list(self._unread):
                connection.abort_if_unread(now)
            self.log.flush(now)


def _raise_file_limit(connections: int) -> int:
    """Raise the soft limit of open files (RLIMIT_NOFILE) as far as `connections` need; return how many then fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    fit = max(1, soft - _RESERVED_FILES, soft // 2)
    logger.warning("%d connections fit, not %d: the process may open %d files", fit, connections, soft)
    return fit
