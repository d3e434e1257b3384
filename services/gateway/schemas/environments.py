"""Environments, as people manage them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictBody
from shared.contracts.deployments import Environment

Name = Annotated[str, Field(min_length=1, max_length=100)]


class CreateEnvironmentRequest(StrictBody):
    """An environment to make."""

    name: Name


class UpdateEnvironmentRequest(StrictBody):
    """What to change."""

    name: Name | None = None
    default: Literal[True] | None = Field(
        None, description="Makes it the one that calls without an environment mean, in place of the former."
    )


class EnvironmentResponse(BaseModel):
    """A place to deploy to, in every project."""

    id: str
    name: str
    default: bool
    created_at: datetime | None
    """Null: it has been there from the beginning."""


def environment_response(found: Environment) -> EnvironmentResponse:
    """An environment as people read it."""
    return EnvironmentResponse(**dict(found))
