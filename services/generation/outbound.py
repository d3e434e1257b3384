"""Requests to addresses that callers name: the public internet, and of the inside only what the installation allows.

The name is looked up once, every address it has is judged, and the connection goes to an address that was judged: a
second answer of the name server changes nothing. Every redirect is a request of its own and judged like the first.
Proxies of the environment are not used: what a proxy connects to cannot be judged here (docs/decisions/0010).
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import httpcore
from pydantic_core import to_json

from shared.errors import Invalid, UpstreamFailed

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
"""From the look-up of the name to the last byte, redirects included."""
LIMIT_BYTES = 1024 * 1024
_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_IDLE_SECONDS = 30.0
_URL_CHARACTERS = "/?:@!$&'()*+,;=%~-._[]"
"""RFC 3986 §2: what stands in a path or query as it is. Everything else is percent-encoded."""

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


class Fence:
    """Which hosts may be called.

    `allow` is a comma-separated list: a host (`api.internal`, `127.0.0.1`) is allowed as it is written in a URL, a
    network (`10.1.0.0/16`) by the address that is connected to. ValueError if it cannot be read.
    """

    def __init__(self, allow: str = "") -> None:
        entries = [entry.strip().lower() for entry in allow.split(",") if entry.strip()]
        self._hosts = {entry.strip("[]") for entry in entries if "/" not in entry}
        self._networks: list[Network] = [ipaddress.ip_network(entry) for entry in entries if "/" in entry]

    async def addresses(self, host: str, port: int) -> list[str]:
        """Every address of the host, each of which may be called. Errors: Invalid, UpstreamFailed (it has none)."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise UpstreamFailed(f"There is no address for the host {host!r}.") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if host.lower().rstrip(".") not in self._hosts and not all(self._passes(address) for address in addresses):
            raise Invalid(
                f"Everloop does not call {host!r}: it is not on the public internet. "
                "Who runs this installation can allow it with EVERLOOP_OUTBOUND_ALLOW."
            )
        return addresses

    def _passes(self, text: str) -> bool:
        address = _unwrapped(ipaddress.ip_address(text.partition("%")[0]))
        return is_public(address) or any(address in network for network in self._networks)


class FencedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections for any httpcore pool, through the fence. TLS above it still verifies the host's name."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first address that answers. Errors: those of `Fence.addresses`, httpcore's."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._fence.addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        *others, last = addresses
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


@dataclass(frozen=True)
class Fetched:
    """An answer, whatever its status."""

    status: int
    content_type: str
    """As sent, with its parameters; empty if none was."""
    content: bytes

    @property
    def text(self) -> str:
        """The content in the charset it names, else in UTF-8; what cannot be read is replaced."""
        for parameter in self.content_type.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                try:
                    return self.content.decode(value.strip().strip("\"'"), errors="replace")
                except LookupError:
                    break
        return self.content.decode(errors="replace")


class Outbound:
    """HTTP to addresses callers name. Errors of every call: Invalid (address), UpstreamFailed (what happens there)."""

    def __init__(self, allow: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=200,
            max_keepalive_connections=20,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=FencedBackend(Fence(allow)),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = LIMIT_BYTES,
        seconds: float = TOTAL_SECONDS,
        leave: bool = True,
    ) -> Fetched:
        """Follows up to three redirects; `headers` may be secret and go to the first origin alone.

        Without `leave` a redirect to another origin is the answer: for addresses that hold a secret, as a server may
        repeat the query in it.
        """
        target, own = _parsed(url), dict(headers or {})
        async with _within(seconds, target):
            for _ in range(_MOST_REDIRECTS + 1):
                fetched, location = await self._send("GET", target, own, None, limit_bytes)
                if location is None:
                    return fetched
                following = _parsed(location, target.geturl())
                if _origin(following) != _origin(target):
                    if not leave:
                        return fetched
                    own = {}
                target = following
        raise UpstreamFailed(f"{target.hostname!r} redirects more than {_MOST_REDIRECTS} times.")

    async def post_json(
        self,
        url: str,
        payload: object,
        *,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = LIMIT_BYTES,
        seconds: float = TOTAL_SECONDS,
    ) -> Fetched:
        """Redirects are not followed: they are the answer."""
        target = _parsed(url)
        own = {"Content-Type": "application/json", **(headers or {})}
        async with _within(seconds, target):
            fetched, _ = await self._send("POST", target, own, to_json(payload), limit_bytes)
        return fetched

    async def _send(
        self, method: str, target: SplitResult, headers: Mapping[str, str], content: bytes | None, limit_bytes: int
    ) -> tuple[Fetched, str | None]:
        """The answer, and where it points if it is a redirect."""
        sent = {
            "Host": _host_header(target),
            "User-Agent": "everloop",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **headers,
        }
        if content is not None:
            sent["Content-Length"] = str(len(content))
        host = target.hostname or ""
        try:
            async with self._pool.stream(
                method,
                _url(target),
                headers=list(sent.items()),
                content=content,
                extensions={"timeout": {"connect": CONNECT_SECONDS}},
            ) as response:
                answered = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                location = answered.get(b"location") if response.status in _REDIRECTS else None
                if answered.get(b"content-encoding", "identity").strip().lower() not in {"", "identity"}:
                    raise UpstreamFailed(f"{host!r} compressed its answer, which it was asked not to.")
                received = b"" if location else await _read(response, host, limit_bytes)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise UpstreamFailed(f"{host!r} cannot be reached.") from error
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise UpstreamFailed(f"{host!r} did not answer as an HTTP server does.") from error
        return Fetched(response.status, answered.get(b"content-type", ""), received), location


async def _read(response: httpcore.Response, host: str, limit_bytes: int) -> bytes:
    received = bytearray()
    async for piece in response.aiter_stream():
        received += piece
        if len(received) > limit_bytes:
            raise UpstreamFailed(f"{host!r} answered with more than {limit_bytes} bytes.")
    return bytes(received)


@asynccontextmanager
async def _within(seconds: float, target: SplitResult) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise UpstreamFailed(f"{target.hostname!r} did not answer within {seconds:g} seconds.") from late


def _parsed(url: str, base: str = "") -> SplitResult:
    """A redirect may be relative to `base`. Errors: Invalid."""
    try:
        parts = urlsplit(urljoin(base, url))
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, an IPv6 address that is none
        usable = False
    if not usable:
        raise Invalid("Only complete addresses that begin with https:// or http:// can be called.")
    if parts.username is not None or parts.password is not None:
        raise Invalid(f"The address of {parts.hostname!r} holds a user or password; send a header instead.")
    return parts


def same_origin(one: str | None, other: str | None) -> bool:
    """Whether two addresses lead to the same server; one without a scheme is of https, and no server is one, too."""
    if one is None or other is None:
        return one is other
    try:
        return _origin(_parsed(_complete(one))) == _origin(_parsed(_complete(other)))
    except Invalid:
        return False


def _complete(url: str) -> str:
    return url if "://" in url else f"https://{url}"


def _origin(target: SplitResult) -> tuple[str, str | None, int]:
    return target.scheme, target.hostname, _port(target)


def _port(target: SplitResult) -> int:
    return target.port or (443 if target.scheme == "https" else 80)


def _ascii_host(target: SplitResult) -> str:
    host = target.hostname or ""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise Invalid(f"{host!r} is not the name of a host.") from None


def _host_header(target: SplitResult) -> str:
    host = _ascii_host(target)
    written = f"[{host}]" if ":" in host else host
    return written if target.port is None else f"{written}:{target.port}"


def _url(target: SplitResult) -> httpcore.URL:
    path = quote(target.path or "/", safe=_URL_CHARACTERS, errors="replace")
    query = f"?{quote(target.query, safe=_URL_CHARACTERS, errors='replace')}" if target.query else ""
    return httpcore.URL(scheme=target.scheme, host=_ascii_host(target), port=_port(target), target=path + query)
