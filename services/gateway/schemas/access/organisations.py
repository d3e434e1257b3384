"""Request and response models of organisations and of set-up."""

from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.schemas.access.sessions import Email, Password, Token
from services.gateway.schemas.bodies import StrictRequestBody
from shared.contracts.access.organisations import OrganisationSettings
from shared.contracts.value import Array


class UpdateOrganisationRequest(StrictRequestBody):
    """Settings to change; what is absent stays."""

    name: Annotated[str, Field(max_length=200)] | None = None
    slug: Annotated[str, Field(max_length=100)] | None = None
    trusted_domains: Array[Annotated[str, Field(max_length=255)]] | None = Field(
        None,
        max_length=100,
        description="Whoever proves an email address in one of these may join as Member. Replaces the list.",
    )


class CreateOrganisationRequest(StrictRequestBody):
    """Another organisation."""

    name: Annotated[str, Field(max_length=200)]


class OrganisationResponse(BaseModel):
    """An organisation with its settings."""

    id: str
    name: str
    slug: str
    trusted_domains: list[str]


class SetupStateResponse(BaseModel):
    """What the page before sign-in shows."""

    needed: bool = Field(description="Whether there is no organisation yet.")
    mail: bool = Field(description="Whether mail can be sent: resetting a password by oneself needs it.")
    oidc_name: str | None = Field(description="Name of the OpenID Connect provider to sign in with, if there is one.")


class SetUpRequest(StrictRequestBody):
    """The first organisation and its Admin."""

    token: Token = Field(description="EVERLOOP_SETUP_TOKEN of this server.")
    organization_name: Annotated[str, Field(max_length=200)]
    email: Email
    full_name: Annotated[str, Field(max_length=200)] | None = None
    password: Password


def organisation_response(settings: OrganisationSettings) -> OrganisationResponse:
    """Return the response model of an organisation."""
    return OrganisationResponse(**settings.model_dump())
