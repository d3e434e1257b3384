"""Routes of members: who is calling, list, change a role, remove. The v4 contract has none of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.access.members import (
    ChangeRoleRequest,
    MemberResponse,
    MeResponse,
    me_response,
    member_response,
)
from services.gateway.schemas.access.sessions import ChangeNameRequest
from shared.contracts.access.account import ChangeName, GetAccount
from shared.contracts.access.members import ChangeRole, ListMembers, RemoveMember
from shared.contracts.permissions import ASSIGN_ROLES, BE_MEMBER
from shared.contracts.principal import Principal

router = APIRouter(tags=["Members"], route_class=BodyRoute)

SelfDep = Annotated[Principal, Depends(require(BE_MEMBER))]
AdminDep = Annotated[Principal, Depends(require(ASSIGN_ROLES))]


@router.get("/me", summary="Who is calling, and what they may do")
async def get_me(caller: SelfDep, gateway: GatewayDep, request: Request) -> MeResponse:
    """The capabilities are those of the role in effect: of an API key, never more than its creator has now."""
    account = await gateway.bus.request(GetAccount(principal=caller))
    return me_response(caller, account, gateway.authenticator.csrf_token(request) if caller.session_id else None)


@router.patch("/me", status_code=204, summary="Change your name")
async def change_name(body: ChangeNameRequest, caller: SelfDep, gateway: GatewayDep) -> Response:
    """Only in a browser session."""
    await gateway.bus.request(ChangeName(principal=caller, full_name=body.full_name))
    return Response(status_code=204)


@router.get("/members", summary="List the members")
async def list_members(caller: SelfDep, gateway: GatewayDep) -> list[MemberResponse]:
    """By email address. Each of them reaches every project."""
    members = (await gateway.bus.request(ListMembers(principal=caller))).members
    return [member_response(member) for member in members]


@router.patch("/members/{id}", summary="Change the role of a member")
async def change_role(
    id: str,  # noqa: A002
    body: ChangeRoleRequest,
    caller: AdminDep,
    gateway: GatewayDep,
) -> MemberResponse:
    """In effect from their next request on, for their API keys too. 409 for the last Admin."""
    return member_response(await gateway.bus.request(ChangeRole(principal=caller, user_id=id, role=body.role)))


@router.delete("/members/{id}", status_code=204, summary="Remove a member")
async def remove_member(id: str, caller: AdminDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """Their API keys are revoked, and refused from the next request on. 409 for the last Admin."""
    await gateway.bus.request(RemoveMember(principal=caller, user_id=id))
    return Response(status_code=204)
