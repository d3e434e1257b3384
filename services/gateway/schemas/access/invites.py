"""Request and response models of invites."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.schemas.access.sessions import Email, Password, Token
from services.gateway.schemas.bodies import StrictRequestBody
from shared.contracts.access.invites import Invite, InvitePreview, NewInvite
from shared.contracts.principal import Role


class SendInviteRequest(StrictRequestBody):
    """Whom to invite."""

    email: Email
    role: Role = "Member"


class InviteResponse(BaseModel):
    """An open invite."""

    id: str
    email: str
    role: Role
    invited_by: str
    created_at: datetime
    expires_at: datetime


class NewInviteResponse(InviteResponse):
    """An invite with its link: the only response that contains it."""

    link: str = Field(
        description="Opened by the invited person. Begins with `/` if EVERLOOP_PUBLIC_URL is not set: put the address "
        "of this server before it."
    )
    mailed: bool = Field(description="Whether the mail server took it. If not, hand the link over yourself.")


class PreviewInviteRequest(StrictRequestBody):
    """The token of an invite."""

    token: Token


class InvitePreviewResponse(BaseModel):
    """What an invite offers."""

    email: str
    role: Role
    organization_name: str
    invited_by: str
    expires_at: datetime
    has_account: bool = Field(description="Whether to sign in, or send the account's password, instead of a new one.")


class AcceptInviteRequest(StrictRequestBody):
    """The token of an invite, and what a new account needs."""

    token: Token
    full_name: Annotated[str, Field(max_length=200)] | None = None
    password: Password | None = None


class RequestInviteRequest(StrictRequestBody):
    """Who asks for an invite, because their organisation trusts the domain of their address."""

    email: Email


def invite_response(invite: Invite) -> InviteResponse:
    """Return the response model of an invite."""
    return InviteResponse(**invite.model_dump())


def new_invite_response(new: NewInvite) -> NewInviteResponse:
    """Return the response model of an invite with its link."""
    return NewInviteResponse(**new.invite.model_dump(), link=new.link, mailed=new.mailed)


def preview_response(preview: InvitePreview) -> InvitePreviewResponse:
    """Return the response model of what an invite offers."""
    fields = preview.model_dump()
    return InvitePreviewResponse(organization_name=fields.pop("organisation_name"), **fields)
