"""What is deployed where, and who changed it when (behaviour.md §8, §10)."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import Body
from shared.contracts.deployments import Deployed, Deployment
from shared.contracts.projects import Project


class EnvironmentRequest(Body):
    """An environment, known by its id."""

    id: str
    name: str | None = None


class EnvironmentProjectConfigRequest(Body):
    """What to deploy where."""

    config_id: str
    environments: list[EnvironmentRequest] | None = Field(
        None, min_length=1, description="Absent: the default environment."
    )


class EnvironmentProjectConfigResponse(BaseModel):
    """An environment of a project; without a config where nothing is deployed."""

    project_id: str
    project_name: str
    model_config_id: str | None
    model_config_name: str | None
    environment_id: str
    environment_name: str
    environment_tag: Literal["default", "other"]


class DeploymentResponse(BaseModel):
    """One change of what is deployed."""

    id: str
    environment_id: str
    environment_name: str | None
    """Null if the environment was deleted."""
    config_id: str | None
    """Null: what was there was removed."""
    previous_config_id: str | None
    user_id: str | None
    user_email: str | None
    created_at: datetime


def deployed_response(project: Project, found: Deployed) -> EnvironmentProjectConfigResponse:
    """A row of the listing."""
    environment = found.environment
    return EnvironmentProjectConfigResponse(
        project_id=project.id,
        project_name=project.name,
        model_config_id=found.config_id,
        model_config_name=found.config_name,
        environment_id=environment.id,
        environment_name=environment.name,
        environment_tag="default" if environment.default else "other",
    )


def deployment_response(found: Deployment) -> DeploymentResponse:
    """An entry of the history."""
    return DeploymentResponse(
        id=found.id,
        environment_id=found.environment_id,
        environment_name=found.environment,
        config_id=found.config_id,
        previous_config_id=found.previous_config_id,
        user_id=found.by and found.by.user_id,
        user_email=found.by and found.by.email,
        created_at=found.at,
    )
