"""The fence: which hosts may be called, and connections that go nowhere else.

The name is looked up once, every address it has is judged, and the connection goes to an address that was judged: a
second answer of the name server changes nothing (docs/decisions/0010).
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress

import httpcore

from shared.errors import Invalid, Unavailable, UpstreamFailed

LOOK_UP_SECONDS = 5.0
"""How long a name may take to look up, waiting for a thread included."""
LOOK_UPS = 32
"""At a time. A name server that answers takes milliseconds; of one that hangs, every look-up holds a thread for long
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
    """Whether an address is on the public internet. One that only wraps an IPv4 address is what it wraps."""
    address = _unwrapped(address)
    if address.version == 6 and address not in _IPV6_UNICAST:
        return False
    return not any(address in network for network in _NEVER_PUBLIC)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class _LookUps:
    """Addresses by name, in threads of their own.

    The event loop's threads (of uvloop's, two look names up) belong to everybody who connects: callers name hosts
    whose name servers hang, and that must not keep the providers waiting. Threads of an executor would be waited for
    at the end of the process; nothing can end a look-up that hangs, so these are daemons.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(LOOK_UPS)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Each once. Errors: OSError, ValueError (there is none), UpstreamFailed, Unavailable (it takes too long)."""
        answer: asyncio.Future[list[str]] | None = None
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                await self._free.acquire()
                answer = self._begin(host, port)
                return await answer
        except TimeoutError as late:
            if answer is None:
                raise Unavailable(
                    f"{host!r} could not be looked up: look-ups of other names hang. Try again."
                ) from late
            raise UpstreamFailed(
                f"There is no address for {host!r}: its name server did not answer within {LOOK_UP_SECONDS:g} seconds."
            ) from late

    def _begin(self, host: str, port: int) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def look_up() -> None:
            found: list[str] | Exception
            try:
                entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
                found = error
            with suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(self._end, answer, found)

        try:
            threading.Thread(target=look_up, name="look up", daemon=True).start()
        except RuntimeError:  # there are no more threads to be had
            self._free.release()
            raise
        return answer

    def _end(self, answer: asyncio.Future[list[str]], found: list[str] | Exception) -> None:
        """A thread is free when it has ended, not when nobody waits for it any more."""
        self._free.release()
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)


class SsrfGuard:
    """Which hosts may be called.

    `allow` is a comma-separated list: a host (`api.internal`, `127.0.0.1`) is allowed as it is written in a URL, a
    network (`10.1.0.0/16`) by the address that is connected to. ValueError if it cannot be read.
    """

    def __init__(self, allow: str = "") -> None:
        entries = [entry.strip().lower() for entry in allow.split(",") if entry.strip()]
        self._hosts = {entry.strip("[]") for entry in entries if "/" not in entry}
        self._networks: list[Network] = [ipaddress.ip_network(entry) for entry in entries if "/" in entry]
        self._look_ups = _LookUps()

    async def addresses(self, host: str, port: int) -> list[str]:
        """Every address of the host, each of which may be called.

        Errors: Invalid, UpstreamFailed (it has none, its name server is silent), Unavailable (look-ups of others hang).
        """
        try:
            addresses = await self._look_ups.addresses(host, port)
        except (OSError, ValueError) as error:
            raise UpstreamFailed(f"There is no address for the host {host!r}.") from error
        if host.lower().rstrip(".") not in self._hosts and not all(self._passes(address) for address in addresses):
            raise Invalid(
                f"Everloop does not call {host!r}: it is not on the public internet. "
                "Who runs this installation can allow it with EVERLOOP_OUTBOUND_ALLOW."
            )
        return addresses

    def _passes(self, text: str) -> bool:
        address = _unwrapped(ipaddress.ip_address(text.partition("%")[0]))
        return is_public(address) or any(address in network for network in self._networks)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections for any httpcore pool, through the fence. TLS above it still verifies the host's name."""

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
        """To the first address that answers. `timeout` is for each; looking them up has its own.

        Errors: those of `SsrfGuard.addresses`, httpcore's.
        """
        *others, last = await self._guard.addresses(host, port)
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
        """Never: a socket file is on this machine."""
        raise httpcore.ConnectError(f"{path} is not on the internet")

    async def sleep(self, seconds: float) -> None:
        """As httpcore wants it."""
        await self._inner.sleep(seconds)
