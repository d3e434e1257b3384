"""Routes that a browser follows to sign in at an OpenID Connect provider."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from services.gateway.deps import GatewayDep
from services.gateway.requests.browser import browser_of
from services.gateway.requests.open_route import OpenRoute
from shared.contracts.access.oidc import BeginOidcSignIn, FinishOidcSignIn
from shared.errors import Denied, Invalid

open_router = APIRouter(tags=["Sign-in"], route_class=OpenRoute)

_TIMEOUT_SECONDS = 30.0
"""The provider is asked up to four times, and given ten seconds each."""


@open_router.get("/auth/oidc", status_code=303, summary="Sign in at the OpenID Connect provider")
async def begin_oidc_sign_in(
    gateway: GatewayDep,
    return_to: Annotated[str, Query(max_length=2000, description="A path of this server.")] = "/",
) -> Response:
    """Sends the browser to the provider. 404 if none is configured."""
    begun = await gateway.bus.request(BeginOidcSignIn(return_to=return_to), timeout_seconds=_TIMEOUT_SECONDS)
    response = RedirectResponse(begun.url, 303)
    gateway.authenticator.cookie.set_oidc(response, begun.browser_secret)
    return response


@open_router.get("/auth/oidc/callback", status_code=303, summary="Where the provider sends the browser back to")
async def finish_oidc_sign_in(
    gateway: GatewayDep,
    request: Request,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
    iss: Annotated[str | None, Query(max_length=2000)] = None,
    error: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Begins a session, and sends the browser to where it wanted to go."""
    cookie = gateway.authenticator.cookie
    if error is not None:
        known = error if error.replace("_", "").isalnum() else "an unknown error"
        raise Denied(f"The provider did not sign you in: {known}.")
    browser_secret = cookie.read_oidc(request.headers)
    if browser_secret is None:
        raise Invalid("This sign-in was not begun in this browser, or more than 10 minutes ago. Begin again.")
    command = FinishOidcSignIn(
        state=state,
        code=code,
        issuer=iss,
        browser_secret=browser_secret,
        browser=browser_of(request, gateway.trusted_proxies),
    )
    finished = await gateway.bus.request(command, timeout_seconds=_TIMEOUT_SECONDS)
    response = RedirectResponse(finished.return_to, 303)
    cookie.set(response, finished.signed_in.secret, finished.signed_in.expires_at)
    cookie.clear_oidc(response)
    return response
