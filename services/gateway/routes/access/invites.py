"""Routes of invites. The token of a link is sent in bodies only: paths stand in logs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.browser import browser_of
from services.gateway.requests.open_route import OpenRoute
from services.gateway.requests.route import BodyRoute
from services.gateway.routes.access.begun_session import begin_session
from services.gateway.schemas.access.invites import (
    AcceptInviteRequest,
    InvitePreviewResponse,
    InviteResponse,
    NewInviteResponse,
    PreviewInviteRequest,
    RequestInviteRequest,
    SendInviteRequest,
    invite_response,
    new_invite_response,
    preview_response,
)
from services.gateway.schemas.access.sessions import SignedInResponse
from shared.contracts.access.invites import (
    AcceptInvite,
    ListInvites,
    PreviewInvite,
    RequestInvite,
    ResendInvite,
    RevokeInvite,
    SendInvite,
)
from shared.contracts.permissions import SEND_INVITES
from shared.contracts.principal import Principal

router = APIRouter(tags=["Invites"], route_class=BodyRoute)
open_router = APIRouter(tags=["Invites"], route_class=OpenRoute)

CallerDep = Annotated[Principal, Depends(require(SEND_INVITES))]
_MAIL_TIMEOUT_SECONDS = 15.0
"""The mail server is given ten seconds."""


@router.get("/invites", summary="List the open invites")
async def list_invites(caller: CallerDep, gateway: GatewayDep) -> list[InviteResponse]:
    """Newest first, expired ones included; accepted and revoked ones are in the audit log."""
    return [invite_response(one) for one in (await gateway.bus.request(ListInvites(principal=caller))).invites]


@router.post("/invites", status_code=201, summary="Invite somebody")
async def send_invite(body: SendInviteRequest, caller: CallerDep, gateway: GatewayDep) -> NewInviteResponse:
    """The link works once within 7 days; it is mailed if a mail server is configured, and in this response."""
    command = SendInvite(principal=caller, email=body.email, role=body.role)
    return new_invite_response(await gateway.bus.request(command, timeout_seconds=_MAIL_TIMEOUT_SECONDS))


@router.post("/invites/{id}/resend", summary="Make and mail a new link of an invite")
async def resend_invite(id: str, caller: CallerDep, gateway: GatewayDep) -> NewInviteResponse:  # noqa: A002
    """The link before is void; the new one works for another 7 days."""
    command = ResendInvite(principal=caller, id=id)
    return new_invite_response(await gateway.bus.request(command, timeout_seconds=_MAIL_TIMEOUT_SECONDS))


@router.delete("/invites/{id}", status_code=204, summary="Revoke an invite")
async def revoke_invite(id: str, caller: CallerDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """Its link is void."""
    await gateway.bus.request(RevokeInvite(principal=caller, id=id))
    return Response(status_code=204)


@open_router.post("/invites/preview", summary="What does an invite offer")
async def preview_invite(body: PreviewInviteRequest, gateway: GatewayDep) -> InvitePreviewResponse:
    """404 if it was used or revoked, or is older than 7 days."""
    return preview_response(await gateway.bus.request(PreviewInvite(token=body.token.get_secret_value())))


@open_router.post("/invites/accept", summary="Accept an invite")
async def accept_invite(
    body: AcceptInviteRequest, gateway: GatewayDep, request: Request, response: Response
) -> SignedInResponse:
    """Makes you a member and signs you in. An account that exists is proved by its session or password."""
    gateway.authenticator.cookie.check_origin(request.headers)
    command = AcceptInvite(
        token=body.token.get_secret_value(),
        full_name=body.full_name,
        password=body.password.get_secret_value() if body.password else None,
        session_hash=gateway.authenticator.session_hash(request),
        browser=browser_of(request, gateway.trusted_proxies),
    )
    signed_in = await gateway.bus.request(command)
    return await begin_session(signed_in, gateway.bus, gateway.authenticator.cookie, response)


@open_router.post("/auth/sign-up", status_code=202, summary="Ask for an invite")
async def request_invite(body: RequestInviteRequest, gateway: GatewayDep, request: Request) -> Response:
    """Mailed if an organisation trusts the domain of the address; the answer is the same if none does."""
    gateway.authenticator.cookie.check_origin(request.headers)
    await gateway.bus.request(RequestInvite(email=body.email, browser=browser_of(request, gateway.trusted_proxies)))
    return Response(status_code=202)
