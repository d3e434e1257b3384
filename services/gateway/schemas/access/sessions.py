"""Request and response models of sign-in, browser sessions and the own account."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from services.gateway.schemas.access.members import MeResponse
from services.gateway.schemas.bodies import StrictRequestBody
from shared.contracts.access.sessions import Session

Email = Annotated[str, Field(min_length=1, max_length=320)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1024)]
Token = Annotated[SecretStr, Field(min_length=1, max_length=200)]


class SignInRequest(StrictRequestBody):
    """Who signs in."""

    email: Email
    password: Password
    organization_id: str | None = Field(
        None, description="Of several organisations, the one to act in. Absent: the one last signed in to."
    )


class SignedInResponse(BaseModel):
    """A session that has begun; its secret is in the cookie."""

    csrf_token: str = Field(description="For the header X-CSRF-Token of every request of it that is no GET.")
    expires_at: datetime
    me: MeResponse


class ChangeNameRequest(StrictRequestBody):
    """What changes of the own account."""

    full_name: Annotated[str, Field(max_length=200)]


class ChangePasswordRequest(StrictRequestBody):
    """The own password, and another one."""

    current_password: Password
    new_password: Password


class SwitchOrganisationRequest(StrictRequestBody):
    """The organisation to act in from now on."""

    organization_id: str


class RequestPasswordResetRequest(StrictRequestBody):
    """Whose password is to be replaced."""

    email: Email


class ResetPasswordRequest(StrictRequestBody):
    """The token of a link, and the new password."""

    token: Token
    new_password: Password


class SessionResponse(BaseModel):
    """A browser session."""

    id: str
    organization_id: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str
    user_agent: str
    current: bool = Field(description="Whether it is the one of this request.")


def session_response(session: Session, current_id: str | None) -> SessionResponse:
    """Return the response model of a session."""
    return SessionResponse(
        id=session.id,
        organization_id=session.organisation,
        created_at=session.created_at,
        last_used_at=session.last_used_at,
        expires_at=session.expires_at,
        address=session.browser.address,
        user_agent=session.browser.user_agent,
        current=session.id == current_id,
    )
