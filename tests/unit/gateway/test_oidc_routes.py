"""The two addresses that a browser visits to sign in at an OpenID Connect provider."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from services.gateway.authentication.session_cookie import SessionCookie
from services.gateway.main import create_app
from services.gateway.requests.rate_limits import RateLimits
from services.gateway.server.client_address import TrustedProxies
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.contracts.access.oidc import BeginOidcSignIn, FinishOidcSignIn, OidcRequest, OidcSignedIn
from shared.contracts.access.sessions import SignedIn
from shared.contracts.principal import Principal

PUBLIC = "https://everloop.example.org"
AT_PROVIDER = "https://accounts.example.com/authorize?state=s"
BROWSER_SECRET, SESSION_SECRET = "hlo_" + "b" * 48, "hls_" + "s" * 48
CALLBACK = "/api/auth/oidc/callback"


class FakeBus:
    """Answers as authz does when all goes well, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def request(self, request: Any, *, timeout_seconds: float) -> Any:  # noqa: ARG002 - as the bus has it
        self.asked.append(request)
        if isinstance(request, BeginOidcSignIn):
            return OidcRequest(url=AT_PROVIDER, browser_secret=BROWSER_SECRET)
        principal = Principal(kind="member", organisation="tm_1", role="Member", user_id="usr_1", session_id="ses_1")
        expires_at = datetime.now(UTC) + timedelta(days=30)
        signed_in = SignedIn(secret=SESSION_SECRET, expires_at=expires_at, principal=principal)
        return OidcSignedIn(signed_in=signed_in, return_to="/projects")


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
async def client(bus: FakeBus) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(secret="x" * 44))
    app.state.gateway = SimpleNamespace(
        bus=bus,
        authenticator=SimpleNamespace(cookie=SessionCookie(PUBLIC)),
        rate_limits=RateLimits(cast("Bus", bus), per_key=0, per_address=0),
        trusted_proxies=TrustedProxies(""),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC) as client:
        yield client


async def test_the_browser_is_sent_to_the_provider_with_a_cookie_for_the_way_back(
    client: httpx.AsyncClient, bus: FakeBus
) -> None:
    answer = await client.get("/api/auth/oidc", params={"return_to": "/projects"})
    assert (answer.status_code, answer.headers["location"]) == (303, AT_PROVIDER)
    assert answer.headers["set-cookie"].startswith(f"__Host-everloop_oidc={BROWSER_SECRET}; ")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Max-Age=600"} <= set(answer.headers["set-cookie"].split("; "))
    assert bus.asked == [BeginOidcSignIn(return_to="/projects")]


async def test_on_the_way_back_a_session_begins(client: httpx.AsyncClient, bus: FakeBus) -> None:
    await client.get("/api/auth/oidc")
    answer = await client.get(CALLBACK, params={"state": "s", "code": "c", "iss": "https://accounts.example.com"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/projects")
    cookies = answer.headers.get_list("set-cookie")
    assert cookies[0].startswith(f"__Host-everloop_session={SESSION_SECRET}; ")
    assert cookies[1].startswith('__Host-everloop_oidc=""; ')
    finished = bus.asked[-1]
    assert isinstance(finished, FinishOidcSignIn)
    assert (finished.state, finished.code, finished.issuer) == ("s", "c", "https://accounts.example.com")
    assert finished.browser_secret == BROWSER_SECRET


async def test_a_browser_that_did_not_begin_it_is_refused(client: httpx.AsyncClient, bus: FakeBus) -> None:
    """Else a link would sign its victim in to the account of whoever made it."""
    answer = await client.get(CALLBACK, params={"state": "s", "code": "c"})
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers
    assert bus.asked == []


@pytest.mark.parametrize(
    ("error", "told"), [("access_denied", "access_denied"), ("<script>alert(1)</script>", "an unknown error")]
)
async def test_a_refusal_of_the_provider_is_told_without_what_anybody_may_have_written(
    client: httpx.AsyncClient, error: str, told: str
) -> None:
    answer = await client.get(CALLBACK, params={"state": "s", "error": error})
    assert answer.status_code == 403
    assert answer.json()["detail"]["message"] == f"The provider did not sign you in: {told}."
    assert "script" not in answer.text
