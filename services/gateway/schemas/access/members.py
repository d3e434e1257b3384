"""Request and response models of members, and of who is calling."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictRequestBody
from shared.contracts.access.account import Account
from shared.contracts.access.members import Member
from shared.contracts.permissions import PERMISSIONS
from shared.contracts.principal import Principal, Role
from shared.permissions import allows


class ChangeRoleRequest(StrictRequestBody):
    """What changes of a member."""

    role: Role


class MemberResponse(BaseModel):
    """A member of the organisation."""

    id: str
    email: str
    full_name: str | None
    role: Role
    joined_at: datetime | None


class MembershipResponse(BaseModel):
    """An organisation of the person who is calling."""

    organization_id: str
    name: str
    slug: str
    role: Role


class MeResponse(BaseModel):
    """Who is calling, and what they may do."""

    kind: Literal["api_key", "member", "service"]
    organization_id: str
    user_id: str | None
    email: str | None
    full_name: str | None
    has_password: bool = Field(description="Whether the person has one, or signs in elsewhere only.")
    role: Role | None
    capabilities: list[str] = Field(description="Names of what the role allows; a console shows what is in here.")
    organizations: list[MembershipResponse] = Field(description="All that the person is a member of.")
    expires_at: datetime | None = Field(description="When the API key, or the session, expires.")
    csrf_token: str | None = Field(
        description="Of a session: for the header X-CSRF-Token of every request that is no GET."
    )


def member_response(member: Member) -> MemberResponse:
    """Return the response model of a member."""
    return MemberResponse(
        id=member.user_id,
        email=member.email,
        full_name=member.full_name,
        role=member.role,
        joined_at=member.joined_at,
    )


def me_response(caller: Principal, account: Account, csrf_token: str | None) -> MeResponse:
    """Return the response model of a principal and the person behind it."""
    return MeResponse(
        kind=caller.kind,
        organization_id=caller.organisation,
        user_id=caller.user_id,
        email=caller.email,
        full_name=account.full_name,
        has_password=account.has_password,
        role=caller.role,
        capabilities=[name for name, permission in PERMISSIONS.items() if allows(caller, permission)],
        organizations=[
            MembershipResponse(organization_id=one.organisation, name=one.name, slug=one.slug, role=one.role)
            for one in account.memberships
        ],
        expires_at=caller.valid_until,
        csrf_token=csrf_token,
    )
