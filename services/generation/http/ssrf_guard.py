"""Guards against server-side request forgery: which hosts may be called, and connections to their addresses alone.

A name is looked up once, every address it has is checked, and the connection goes to a checked address: a second answer
of the name server (DNS rebinding) changes nothing (docs/decisions/0010).
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress

import httpcore

from shared.errors import Invalid, Unavailable, UpstreamFailed

LOOKUP_SECONDS = 5.0
"""Timeout of one look-up of a name, waiting for a thread included."""
MAX_LOOKUPS = 32
"""At a time. A name server that answers takes milliseconds; if one hangs, a look-up holds its thread for long
(resolv.conf(5): 5 s a try, two tries a server)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        # IPv4, https://www.iana.org/assignments/iana-ipv4-special-registry (2024-11)
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        # Azure's platform channel: https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
        "168.63.129.16/32",
        # IPv6, https://www.iana.org/assignments/iana-ipv6-special-registry (2024-11): within 2000::/3
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")
"""All that was ever handed out (https://www.iana.org/assignments/ipv6-unicast-address-assignments, 2024-11)."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""


def is_public(address: Address) -> bool:
    """Return whether an address is on the public internet; an IPv6 address with an embedded IPv4 one counts as that."""
    address = _embedded_ipv4(address)
    if address.version == 6 and address not in _IPV6_UNICAST:
        return False
    return not any(address in network for network in _NEVER_PUBLIC)


def _embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address in an IPv4-mapped or NAT64 address; any other address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class _Resolver:
    """Looks names up in threads of its own.

    The event loop's threads (uvloop has two for look-ups) are shared by everything that connects: callers name hosts
    whose name servers hang, and calls to providers must not wait for them. Threads of an executor would be waited for
    at the end of the process, and a look-up that hangs cannot be cancelled, so these are daemon threads.
    """

    def __init__(self) -> None:
        self._free_threads = asyncio.Semaphore(MAX_LOOKUPS)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, each once.

        Raises OSError or ValueError if it has none, UpstreamFailed if its name server does not answer in time,
        Unavailable if no thread gets free in time.
        """
        result: asyncio.Future[list[str]] | None = None
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                await self._free_threads.acquire()
                result = self._start_lookup(host, port)
                return await result
        except TimeoutError as error:
            if result is None:
                raise Unavailable(
                    f"{host!r} could not be looked up: look-ups of other names hang. Try again."
                ) from error
            raise UpstreamFailed(
                f"There is no address for {host!r}: its name server did not answer within {LOOKUP_SECONDS:g} seconds."
            ) from error

    def _start_lookup(self, host: str, port: int) -> asyncio.Future[list[str]]:
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
                loop.call_soon_threadsafe(self._finish_lookup, result, outcome)

        try:
            threading.Thread(target=look_up, name="look up", daemon=True).start()
        except RuntimeError:  # the system starts no more threads
            self._free_threads.release()
            raise
        return result

    def _finish_lookup(self, result: asyncio.Future[list[str]], outcome: list[str] | Exception) -> None:
        """A thread is free when its look-up has ended, not when the caller has stopped waiting for it."""
        self._free_threads.release()
        if result.done():
            return
        if isinstance(outcome, Exception):
            result.set_exception(outcome)
        else:
            result.set_result(outcome)


class SsrfGuard:
    """Resolves hosts, and refuses those that may not be called.

    `allow` is a comma-separated list of what may be called besides the public internet: a host (`api.internal`,
    `127.0.0.1`) as it is written in a URL, a network (`10.1.0.0/16`) by the address that is connected to. Raises
    ValueError if it cannot be parsed.
    """

    def __init__(self, allow: str = "") -> None:
        entries = [entry.strip().lower() for entry in allow.split(",") if entry.strip()]
        self._hosts = {entry.strip("[]") for entry in entries if "/" not in entry}
        self._networks: list[Network] = [ipaddress.ip_network(entry) for entry in entries if "/" in entry]
        self._resolver = _Resolver()

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return every address of the host, all of which may be called.

        Raises Invalid if one of them may not, UpstreamFailed if there is none or the name server does not answer,
        Unavailable if too many look-ups hang.
        """
        try:
            addresses = await self._resolver.resolve(host, port)
        except (OSError, ValueError) as error:
            raise UpstreamFailed(f"There is no address for the host {host!r}.") from error
        if host.lower().rstrip(".") not in self._hosts and not all(self._is_allowed(address) for address in addresses):
            raise Invalid(
                f"Everloop does not call {host!r}: it is not on the public internet. "
                "Who runs this installation can allow it with EVERLOOP_OUTBOUND_ALLOW."
            )
        return addresses

    def _is_allowed(self, text: str) -> bool:
        address = _embedded_ipv4(ipaddress.ip_address(text.partition("%")[0]))
        return is_public(address) or any(address in network for network in self._networks)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Network backend of an httpcore pool: connects to addresses of `SsrfGuard` alone. TLS verifies the host's name."""

    def __init__(self, guard: SsrfGuard) -> None:
        self._guard = guard
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. `timeout` (seconds) is for each; the look-up has its own.

        Raises as `SsrfGuard.resolve`, and httpcore's errors.
        """
        *others, last = await self._guard.resolve(host, port)
        for address in others:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(last, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Raise ConnectError: a Unix socket is on this machine."""
        raise httpcore.ConnectError(f"{path} is not on the internet")

    async def sleep(self, seconds: float) -> None:
        """Sleep, for httpcore's retries."""
        await self._inner.sleep(seconds)
