"""An HTTP client for addresses that callers name: it calls the public internet, and inside only what is allowed.

Connections are opened by `ssrf_guard.GuardedBackend`; every redirect is a request of its own, checked like the first.
Proxies of the environment are not used: where a proxy connects to cannot be checked here (docs/decisions/0010).
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
MAX_RESPONSE_BYTES = 1024 * 1024
_MAX_REDIRECTS = 3
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_KEEPALIVE_SECONDS = 30.0
_URL_CHARACTERS = "/?:@!$&'()*+,;=%~-._[]"
"""RFC 3986 §2: characters that stay as they are in a path or query. Everything else is percent-encoded."""


@dataclass(frozen=True)
class HttpResponse:
    """A response, whatever its status."""

    status: int
    content_type: str
    """As sent, with its parameters; empty if none was."""
    content: bytes

    @property
    def text(self) -> str:
        """The content decoded by the charset it names, else as UTF-8; what cannot be decoded is replaced."""
        for parameter in self.content_type.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                try:
                    return self.content.decode(value.strip().strip("\"'"), errors="replace")
                except LookupError:
                    break
        return self.content.decode(errors="replace")


class GuardedClient:
    """Sends GET and POST requests to addresses that callers name.

    Each raises Invalid for an address that may not be called; UpstreamFailed if the server cannot be reached, is slow
    or answers too much; Unavailable if too many look-ups of names hang (`ssrf_guard.py`).
    """

    def __init__(self, allow: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=200,
            max_keepalive_connections=20,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=GuardedBackend(SsrfGuard(allow)),
        )

    async def close(self) -> None:
        """Close every connection, without waiting for look-ups that hang."""
        await self._pool.aclose()

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_RESPONSE_BYTES,
        total_seconds: float = TOTAL_SECONDS,
        follow_to_other_origins: bool = True,
        on_received: Callable[[int], None] | None = None,
    ) -> HttpResponse:
        """Send a GET and follow up to three redirects; only the first origin gets `headers`, as they may be secret.

        Without `follow_to_other_origins` a redirect to another origin is returned: for addresses with a secret in the
        query, which a server may repeat in the redirect. `on_received` is called with the length of every chunk of the
        content, in bytes, and may raise to end the request.
        """
        target, sent_headers = parse_url(url), dict(headers or {})
        async with _timeout(total_seconds, target):
            for _ in range(_MAX_REDIRECTS + 1):
                response, location = await self._send("GET", target, sent_headers, None, max_bytes, on_received)
                if location is None:
                    return response
                next_target = parse_url(location, target.geturl())
                if _origin(next_target) != _origin(target):
                    if not follow_to_other_origins:
                        return response
                    sent_headers = {}
                target = next_target
        raise UpstreamFailed(f"{target.hostname!r} redirects more than {_MAX_REDIRECTS} times.")

    async def post_json(
        self,
        url: str,
        payload: object,
        *,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_RESPONSE_BYTES,
        total_seconds: float = TOTAL_SECONDS,
    ) -> HttpResponse:
        """Send `payload` as JSON; a redirect is returned and not followed."""
        target = parse_url(url)
        sent_headers = {"Content-Type": "application/json", **(headers or {})}
        async with _timeout(total_seconds, target):
            response, _ = await self._send("POST", target, sent_headers, to_json(payload), max_bytes)
        return response

    async def _send(
        self,
        method: str,
        target: SplitResult,
        headers: Mapping[str, str],
        content: bytes | None,
        max_bytes: int,
        on_received: Callable[[int], None] | None = None,
    ) -> tuple[HttpResponse, str | None]:
        """Send one request; return the response, and the location if it is a redirect (its content is not read)."""
        all_headers = {
            "Host": _host_header(target),
            "User-Agent": "everloop",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **headers,
        }
        if content is not None:
            all_headers["Content-Length"] = str(len(content))
        host = target.hostname or ""
        try:
            async with self._pool.stream(
                method,
                _url(target),
                headers=list(all_headers.items()),
                content=content,
                extensions={"timeout": {"connect": CONNECT_SECONDS}},
            ) as response:
                received = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                location = received.get(b"location") if response.status in _REDIRECT_STATUSES else None
                if received.get(b"content-encoding", "identity").strip().lower() not in {"", "identity"}:
                    raise UpstreamFailed(f"{host!r} compressed its answer, which it was asked not to.")
                body = b"" if location else await _read_body(response, host, max_bytes, on_received)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise UpstreamFailed(f"{host!r} cannot be reached.") from error
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise UpstreamFailed(f"{host!r} did not answer as an HTTP server does.") from error
        return HttpResponse(response.status, received.get(b"content-type", ""), body), location


async def _read_body(
    response: httpcore.Response, host: str, max_bytes: int, on_received: Callable[[int], None] | None
) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise UpstreamFailed(f"{host!r} answered with more than {max_bytes} bytes.")
        if on_received:
            on_received(len(chunk))
    return bytes(body)


@asynccontextmanager
async def _timeout(seconds: float, target: SplitResult) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise UpstreamFailed(f"{target.hostname!r} did not answer within {seconds:g} seconds.") from error


def parse_url(url: str, base: str = "") -> SplitResult:
    """Split an http or https address, which may be relative to `base`.

    Raises Invalid for any other form, and for one with a user or password. Whether its host may be called is checked
    when the connection is opened.
    """
    try:
        parts = urlsplit(urljoin(base, url))
        is_complete = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, an IPv6 address that is none
        is_complete = False
    if not is_complete:
        raise Invalid("Only complete addresses that begin with https:// or http:// can be called.")
    if parts.username is not None or parts.password is not None:
        raise Invalid(f"The address of {parts.hostname!r} holds a user or password; send a header instead.")
    return parts


def same_origin(one: str | None, other: str | None) -> bool:
    """Return whether two addresses have the same scheme, host and port (RFC 6454).

    One without a scheme is https; None equals None alone; an address that cannot be called equals none.
    """
    if one is None or other is None:
        return one is other
    try:
        return _origin(parse_url(_with_scheme(one))) == _origin(parse_url(_with_scheme(other)))
    except Invalid:
        return False


def _with_scheme(url: str) -> str:
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
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if target.port is None else f"{bracketed}:{target.port}"


def _url(target: SplitResult) -> httpcore.URL:
    path = quote(target.path or "/", safe=_URL_CHARACTERS, errors="replace")
    query = f"?{quote(target.query, safe=_URL_CHARACTERS, errors='replace')}" if target.query else ""
    return httpcore.URL(scheme=target.scheme, host=_ascii_host(target), port=_port(target), target=path + query)
