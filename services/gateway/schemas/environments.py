"""Request and response models of environments."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictRequestBody
from shared.contracts.generation.deployments import Environment

EnvironmentName = Annotated[str, Field(min_length=1, max_length=100)]


class CreateEnvironmentRequest(StrictRequestBody):
    """An environment to create."""

    name: EnvironmentName


class UpdateEnvironmentRequest(StrictRequestBody):
    """The fields to change; absent ones stay."""

    name: EnvironmentName | None = None
    default: Literal[True] | None = Field(
        None, description="Makes it the default environment, which calls without an environment use."
    )


class EnvironmentResponse(BaseModel):
    """An environment; every project can deploy to it."""

    id: str
    name: str
    default: bool
    created_at: datetime | None
    """Null for the environment that every organisation starts with."""


def environment_response(environment: Environment) -> EnvironmentResponse:
    """Return the response model of an environment."""
    return EnvironmentResponse(**dict(environment))
