"""Looks names up in threads of its own, bounded by shares."""

import asyncio
import ipaddress
import socket
import threading
from contextlib import suppress

from services.generation.http.concurrency import ConcurrencyLimiter, Place, ShareUsed, fair_shares
from shared.errors import Unavailable, UpstreamFailed

LOOKUP_SECONDS = 5.0
"""Timeout of one look-up of a name; waiting for a thread may take half as long before it."""


class NameLookup:
    """Looks up to `threads` names up at a time, of one organisation or domain a share of them (`concurrency.py`).

    The event loop's threads (uvloop has two for look-ups) are shared by everything that connects: callers name hosts
    whose name servers hang, and calls to providers must not wait for them. Threads of an executor would be waited for
    at the end of the process, and a look-up that hangs cannot be cancelled, so these are daemon threads. One that hangs
    holds its place for long (resolv.conf(5): 5 s a try, two tries a server), also when nobody waits for it any more.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._limiter = ConcurrencyLimiter()

    async def resolve(self, organisation: str, host: str, port: int) -> list[str]:
        """Return the addresses of a host, each once.

        Raises OSError or ValueError if it has none, UpstreamFailed if its name server does not answer in time,
        Unavailable if no thread gets free in time.
        """
        with suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        try:
            place = await self._limiter.acquire(
                fair_shares(self._threads, organisation, _domain(host)), LOOKUP_SECONDS / 2
            )
        except ShareUsed as used:
            raise Unavailable(
                f"{host!r} could not be looked up: {used.share.places} look-ups of other names hang. Try again; "
                "a tool or image whose name server does not answer takes the place of others."
            ) from used
        result = self._start_lookup(place, host, port)
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await result
        except TimeoutError as error:
            raise UpstreamFailed(
                f"There is no address for {host!r}: its name server did not answer within {LOOKUP_SECONDS:g} seconds."
            ) from error

    def _start_lookup(self, place: Place, host: str, port: int) -> asyncio.Future[list[str]]:
        """Start a thread that holds `place` until it ends, however long somebody waits for it."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[list[str]] = loop.create_future()

        def look_up() -> None:
            outcome: list[str] | Exception
            try:
                entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                outcome = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
            except Exception as error:  # noqa: BLE001 - raised in the caller of `resolve`
                outcome = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_finish_lookup, place, result, outcome)

        try:
            threading.Thread(target=look_up, name="look up", daemon=True).start()
        except RuntimeError as error:
            place.release()
            raise Unavailable(f"{host!r} could not be looked up: the system starts no more threads.") from error
        return result


def _finish_lookup(place: Place, result: asyncio.Future[list[str]], outcome: list[str] | Exception) -> None:
    place.release()
    if result.done():
        return
    if isinstance(outcome, Exception):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)


def _domain(host: str) -> str:
    """Return the last two labels of a name: names below them mostly have one name server."""
    return ".".join(host.removesuffix(".").lower().split(".")[-2:])
