"""Requests to addresses that callers name: the public internet, and of the inside only what the installation allows.

The fence (`fence.py`) opens the connections, and every redirect is a request of its own, judged like the first.
Proxies of the environment are not used: what a proxy connects to cannot be judged here (docs/decisions/0010).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import httpcore
from pydantic_core import to_json

from services.generation.http.ssrf_guard import GuardedBackend, SsrfGuard
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


class GuardedClient:
    """HTTP to addresses callers name.

    Errors of every call: Invalid (address), UpstreamFailed (what happens there), Unavailable (see `fence.py`).
    """

    def __init__(self, allow: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=200,
            max_keepalive_connections=20,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=GuardedBackend(SsrfGuard(allow)),
        )

    async def close(self) -> None:
        """Close every connection. Look-ups that hang are not waited for."""
        await self._pool.aclose()

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = LIMIT_BYTES,
        seconds: float = TOTAL_SECONDS,
        leave: bool = True,
        arrived: Callable[[int], None] | None = None,
    ) -> Fetched:
        """Follows up to three redirects; `headers` may be secret and go to the first origin alone.

        Without `leave` a redirect to another origin is the answer: for addresses that hold a secret, as a server may
        repeat the query in it. `arrived` is told of the bytes of every piece of the answer, and may raise to end it.
        """
        target, own = parsed(url), dict(headers or {})
        async with _within(seconds, target):
            for _ in range(_MOST_REDIRECTS + 1):
                fetched, location = await self._send("GET", target, own, None, limit_bytes, arrived)
                if location is None:
                    return fetched
                following = parsed(location, target.geturl())
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
        target = parsed(url)
        own = {"Content-Type": "application/json", **(headers or {})}
        async with _within(seconds, target):
            fetched, _ = await self._send("POST", target, own, to_json(payload), limit_bytes)
        return fetched

    async def _send(
        self,
        method: str,
        target: SplitResult,
        headers: Mapping[str, str],
        content: bytes | None,
        limit_bytes: int,
        arrived: Callable[[int], None] | None = None,
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
                received = b"" if location else await _read(response, host, limit_bytes, arrived)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise UpstreamFailed(f"{host!r} cannot be reached.") from error
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise UpstreamFailed(f"{host!r} did not answer as an HTTP server does.") from error
        return Fetched(response.status, answered.get(b"content-type", ""), received), location


async def _read(
    response: httpcore.Response, host: str, limit_bytes: int, arrived: Callable[[int], None] | None
) -> bytes:
    received = bytearray()
    async for piece in response.aiter_stream():
        received += piece
        if len(received) > limit_bytes:
            raise UpstreamFailed(f"{host!r} answered with more than {limit_bytes} bytes.")
        if arrived:
            arrived(len(piece))
    return bytes(received)


@asynccontextmanager
async def _within(seconds: float, target: SplitResult) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise UpstreamFailed(f"{target.hostname!r} did not answer within {seconds:g} seconds.") from late


def parsed(url: str, base: str = "") -> SplitResult:
    """An address that may be called, as far as its form goes; it may be relative to `base`. Errors: Invalid."""
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
        return _origin(parsed(_complete(one))) == _origin(parsed(_complete(other)))
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
