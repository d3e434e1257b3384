"""Routes of sign-in and of browser sessions. The v4 contract has none of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.browser import browser_of
from services.gateway.requests.open_route import OpenRoute
from services.gateway.requests.route import BodyRoute
from services.gateway.routes.access.begun_session import begin_session
from services.gateway.schemas.access.sessions import (
    ChangePasswordRequest,
    RequestPasswordResetRequest,
    ResetPasswordRequest,
    SessionResponse,
    SignedInResponse,
    SignInRequest,
    SwitchOrganisationRequest,
    session_response,
)
from shared.contracts.access.account import ChangePassword, RequestPasswordReset, ResetPassword
from shared.contracts.access.sessions import (
    EndSession,
    ListSessions,
    SignIn,
    SignOut,
    SignOutEverywhere,
    SwitchOrganisation,
)
from shared.contracts.permissions import BE_MEMBER
from shared.contracts.principal import Principal

router = APIRouter(tags=["Sign-in"], route_class=BodyRoute)
open_router = APIRouter(tags=["Sign-in"], route_class=OpenRoute)

SelfDep = Annotated[Principal, Depends(require(BE_MEMBER))]


@open_router.post("/auth/login", summary="Sign in with email address and password")
async def sign_in(body: SignInRequest, gateway: GatewayDep, request: Request, response: Response) -> SignedInResponse:
    """Begins a session, whose secret is in the cookie. 401 for a wrong address or password alike; 429 after many."""
    gateway.authenticator.cookie.check_origin(request.headers)
    command = SignIn(
        email=body.email,
        password=body.password.get_secret_value(),
        organisation=body.organization_id,
        browser=browser_of(request, gateway.trusted_proxies),
    )
    signed_in = await gateway.bus.request(command)
    return await begin_session(signed_in, gateway.bus, gateway.authenticator.cookie, response)


@open_router.post("/auth/logout", status_code=204, summary="Sign out")
async def sign_out(gateway: GatewayDep, request: Request) -> Response:
    """Ends the session of the cookie, if it is one that goes on."""
    response = Response(status_code=204)
    if session_hash := gateway.authenticator.session_hash(request):
        browser = browser_of(request, gateway.trusted_proxies)
        await gateway.bus.request(SignOut(session_hash=session_hash, browser=browser))
    gateway.authenticator.cookie.clear(response)
    return response


@open_router.post("/auth/password-reset", status_code=202, summary="Have a link mailed to choose a new password")
async def request_password_reset(body: RequestPasswordResetRequest, gateway: GatewayDep, request: Request) -> Response:
    """The answer is the same whether there is such an account. 503 if no mail server is configured."""
    gateway.authenticator.cookie.check_origin(request.headers)
    await gateway.bus.request(
        RequestPasswordReset(email=body.email, browser=browser_of(request, gateway.trusted_proxies))
    )
    return Response(status_code=202)


@open_router.post("/auth/password-reset/confirm", status_code=204, summary="Choose a new password by such a link")
async def reset_password(body: ResetPasswordRequest, gateway: GatewayDep, request: Request) -> Response:
    """Uses the link up and ends all sessions of the person."""
    gateway.authenticator.cookie.check_origin(request.headers)
    command = ResetPassword(
        token=body.token.get_secret_value(),
        new_password=body.new_password.get_secret_value(),
        browser=browser_of(request, gateway.trusted_proxies),
    )
    await gateway.bus.request(command)
    return Response(status_code=204)


@router.post("/auth/password", summary="Change your password", responses={429: {}})
async def change_password(
    body: ChangePasswordRequest, caller: SelfDep, gateway: GatewayDep, request: Request, response: Response
) -> SignedInResponse:
    """Ends all your sessions, and begins a new one here."""
    command = ChangePassword(
        principal=caller,
        current_password=body.current_password.get_secret_value(),
        new_password=body.new_password.get_secret_value(),
        browser=browser_of(request, gateway.trusted_proxies),
    )
    signed_in = await gateway.bus.request(command)
    return await begin_session(signed_in, gateway.bus, gateway.authenticator.cookie, response)


@router.post("/auth/organization", summary="Act in another of your organisations")
async def switch_organisation(
    body: SwitchOrganisationRequest, caller: SelfDep, gateway: GatewayDep, request: Request, response: Response
) -> SignedInResponse:
    """Ends this session, and begins one in the other organisation."""
    command = SwitchOrganisation(
        principal=caller, to=body.organization_id, browser=browser_of(request, gateway.trusted_proxies)
    )
    signed_in = await gateway.bus.request(command)
    return await begin_session(signed_in, gateway.bus, gateway.authenticator.cookie, response)


@router.post("/auth/logout-everywhere", status_code=204, summary="Sign out everywhere")
async def sign_out_everywhere(caller: SelfDep, gateway: GatewayDep) -> Response:
    """Ends all your sessions in all browsers, this one too; API keys go on."""
    await gateway.bus.request(SignOutEverywhere(principal=caller))
    response = Response(status_code=204)
    gateway.authenticator.cookie.clear(response)
    return response


@router.get("/auth/sessions", summary="List your sessions")
async def list_sessions(caller: SelfDep, gateway: GatewayDep) -> list[SessionResponse]:
    """Those that go on, the last used first."""
    sessions = (await gateway.bus.request(ListSessions(principal=caller))).sessions
    return [session_response(session, caller.session_id) for session in sessions]


@router.delete("/auth/sessions/{id}", status_code=204, summary="End one of your sessions")
async def end_session(id: str, caller: SelfDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """It is refused from the next request on."""
    await gateway.bus.request(EndSession(principal=caller, id=id))
    return Response(status_code=204)
