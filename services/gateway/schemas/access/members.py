"""Request and response models of members, and of who is calling."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictRequestBody
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


class MeResponse(BaseModel):
    """Who is calling, and what they may do."""

    kind: Literal["api_key", "member", "service"]
    organisation_id: str
    user_id: str | None
    email: str | None
    role: Role | None
    capabilities: list[str] = Field(description="Names of what the role allows; a console shows what is in here.")
    expires_at: datetime | None = Field(description="When the API key expires.")


def member_response(member: Member) -> MemberResponse:
    """Return the response model of a member."""
    return MemberResponse(
        id=member.user_id,
        email=member.email,
        full_name=member.full_name,
        role=member.role,
        joined_at=member.joined_at,
    )


def me_response(caller: Principal) -> MeResponse:
    """Return the response model of a principal."""
    return MeResponse(
        kind=caller.kind,
        organisation_id=caller.organisation,
        user_id=caller.user_id,
        email=caller.email,
        role=caller.role,
        capabilities=[name for name, permission in PERMISSIONS.items() if allows(caller, permission)],
        expires_at=caller.valid_until,
    )
