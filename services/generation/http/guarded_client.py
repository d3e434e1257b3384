"""An HTTP client for addresses that callers name: it calls the public internet, and inside only what is allowed.

Connections go to addresses that `ssrf_guard.SsrfGuard` checked; every redirect is a request of its own, checked like
the first.
Proxies of the environment are not used: where a proxy connects to cannot be checked here (docs/decisions/0010).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult

from pydantic_core import to_json

from services.generation.http import exchange, urls
from services.generation.http.allowed_hosts import normalise_host
from services.generation.http.concurrency import ConcurrencyLimiter, Share, ShareUsed, fair_shares
from services.generation.http.name_lookup import NameLookup
from services.generation.http.response import HttpResponse
from services.generation.http.response_bytes import Reservation, ResponseBytes
from services.generation.http.ssrf_guard import SsrfGuard
from shared.errors import Unavailable, UpstreamFailed

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
"""From the look-up of the name to the last byte, redirects included."""
MAX_RESPONSE_BYTES = 1024 * 1024
_MAX_REDIRECTS = 3
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class OutboundLimits:
    """What all requests to addresses that callers name may take at a time; an organisation and a host have a share."""

    max_concurrency: int = 256
    """Requests (`concurrency.fair_shares`)."""
    lookup_threads: int = 64
    """Look-ups of names (`concurrency.fair_shares`)."""
    response_bytes: int = 96 * 1024 * 1024
    """Bytes of responses in memory; half of them for one organisation."""


class GuardedClient:
    """Opens the sessions in which such requests are sent."""

    def __init__(
        self, allow: str = "", limits: OutboundLimits = OutboundLimits(), *, tls: ssl.SSLContext | None = None
    ) -> None:
        """`allow` lists what may be called besides the public internet (`allowed_hosts.py`). Raises ValueError."""
        self._guard = SsrfGuard(allow, NameLookup(limits.lookup_threads))
        self._max_concurrency = limits.max_concurrency
        self._limiter = ConcurrencyLimiter()
        self._response_bytes = ResponseBytes(limits.response_bytes)
        self._tls = tls or ssl.create_default_context()

    @contextmanager
    def session(self, organisation: str, max_bytes: int, what: str) -> Iterator["GuardedSession"]:
        """Yield a session of an organisation, whose responses may have `max_bytes` together; `what` they are is named
        in errors. They count as in memory until it ends."""
        with self._response_bytes.reservation(organisation, max_bytes, what) as reservation:
            yield GuardedSession(self, organisation, reservation)

    @asynccontextmanager
    async def exchange(
        self, organisation: str, target: SplitResult, total_seconds: float
    ) -> AsyncIterator[exchange.Exchange]:
        """Connect to a checked address of the target while there is a place for it; release the place in the end."""
        host, port = normalise_host(urls.ascii_host(target)), urls.port(target)
        shares = fair_shares(self._max_concurrency, organisation, f"{host}:{port}")
        try:
            place = await self._limiter.acquire(shares, total_seconds / 2)
        except ShareUsed as used:
            raise _share_problem(used.share) from used
        with place:
            addresses = await self._guard.resolve(organisation, host, port)
            tls = self._tls if target.scheme == "https" else None
            try:
                async with exchange.connect(addresses, port, tls, host, CONNECT_SECONDS) as connected:
                    yield connected
            except exchange.CannotConnect as error:
                raise UpstreamFailed(f"{target.hostname!r} cannot be reached.") from error
            except exchange.NoHttp as error:
                raise UpstreamFailed(f"{target.hostname!r} did not answer as an HTTP server does.") from error


class GuardedSession:
    """Sends GET and POST requests for an organisation, each over a connection of its own.

    Each raises Invalid for an address that may not be called; UpstreamFailed if the server cannot be reached, is slow
    or answers too much; TooLarge if all responses of the session together are too much; Unavailable if the
    organisation, or all of them, have too much in hand: a request waits for a place for at most half of its time.
    """

    def __init__(self, client: GuardedClient, organisation: str, reservation: Reservation) -> None:
        self._client = client
        self._organisation = organisation
        self._reservation = reservation

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_RESPONSE_BYTES,
        total_seconds: float = TOTAL_SECONDS,
        follow_to_other_origins: bool = True,
    ) -> HttpResponse:
        """Send a GET and follow up to three redirects; only the first origin gets `headers`, as they may be secret.

        Without `follow_to_other_origins` a redirect to another origin is returned: for addresses with a secret in the
        query, which a server may repeat in the redirect.
        """
        target, sent_headers = urls.parse_url(url), dict(headers or {})
        async with _timeout(total_seconds, target):
            for _ in range(_MAX_REDIRECTS + 1):
                response, location = await self._request("GET", target, sent_headers, None, max_bytes, total_seconds)
                if location is None:
                    return response
                next_target = urls.parse_url(location, target.geturl())
                if urls.origin(next_target) != urls.origin(target):
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
        target = urls.parse_url(url)
        sent_headers = {"Content-Type": "application/json", **(headers or {})}
        async with _timeout(total_seconds, target):
            response, _ = await self._request("POST", target, sent_headers, to_json(payload), max_bytes, total_seconds)
        return response

    async def _request(
        self,
        method: str,
        target: SplitResult,
        headers: Mapping[str, str],
        content: bytes | None,
        max_bytes: int,
        total_seconds: float,
    ) -> tuple[HttpResponse, str | None]:
        """Send one request; return the response, and the location if it is a redirect (its content is not read)."""
        all_headers = {
            "Host": urls.host_header(target),
            "User-Agent": "everloop",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        }
        if content is not None:
            all_headers["Content-Length"] = str(len(content))
        async with self._client.exchange(self._organisation, target, total_seconds) as connected:
            response = await connected.send(method, urls.request_target(target), list(all_headers.items()), content)
            received = {name: value.decode("latin-1") for name, value in response.headers}
            location = received.get(b"location") if response.status_code in _REDIRECT_STATUSES else None
            if received.get(b"content-encoding", "identity").strip().lower() not in {"", "identity"}:
                raise UpstreamFailed(f"{target.hostname!r} compressed its answer, which it was asked not to.")
            body = b"" if location else await connected.read_body(max_bytes, self._reservation.grow)
        if body is None:
            raise UpstreamFailed(f"{target.hostname!r} answered with more than {max_bytes} bytes.")
        return HttpResponse(response.status_code, received.get(b"content-type", ""), body), location


def _share_problem(share: Share) -> Unavailable:
    whose = "Everloop" if share.organisation is None else "This organisation"
    what = "tools and images" if share.target is None else share.target
    return Unavailable(
        f"{whose} has {share.places} calls to {what} under way, which is the most, and none ended in time. Try again "
        "with fewer at a time; who runs this installation sets their number with EVERLOOP_OUTBOUND_AT_ONCE."
    )


@asynccontextmanager
async def _timeout(seconds: float, target: SplitResult) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise UpstreamFailed(f"{target.hostname!r} did not answer within {seconds:g} seconds.") from error
