"""Request and response models of deployments and their history (behaviour.md §8, §10)."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import RequestBody
from shared.contracts.generation.deployments import Deployed, Deployment
from shared.contracts.generation.projects import Project
from shared.contracts.value import Array


class EnvironmentRequest(RequestBody):
    """An environment, identified by its id."""

    id: str
    name: str | None = None


class EnvironmentProjectConfigRequest(RequestBody):
    """A config to deploy, and the environments to deploy it to."""

    config_id: str
    environments: Array[EnvironmentRequest] | None = Field(
        None, min_length=1, max_length=100, description="Absent: the default environment."
    )


class EnvironmentProjectConfigResponse(BaseModel):
    """An environment of a project and the config deployed there; null if there is none."""

    project_id: str
    project_name: str
    model_config_id: str | None
    model_config_name: str | None
    environment_id: str
    environment_name: str
    environment_tag: Literal["default", "other"]


class DeploymentResponse(BaseModel):
    """One deployment or removal in the history of a project."""

    id: str
    environment_id: str
    environment_name: str | None
    """Null if the environment was deleted."""
    config_id: str | None
    """Null if the deployed config was removed."""
    previous_config_id: str | None
    user_id: str | None
    user_email: str | None
    created_at: datetime


def deployed_response(project: Project, deployed: Deployed) -> EnvironmentProjectConfigResponse:
    """Return the response model of one environment of `project`."""
    environment = deployed.environment
    return EnvironmentProjectConfigResponse(
        project_id=project.id,
        project_name=project.name,
        model_config_id=deployed.config_id,
        model_config_name=deployed.config_name,
        environment_id=environment.id,
        environment_name=environment.name,
        environment_tag="default" if environment.default else "other",
    )


def deployment_response(deployment: Deployment) -> DeploymentResponse:
    """Return the response model of one entry of the history."""
    return DeploymentResponse(
        id=deployment.id,
        environment_id=deployment.environment_id,
        environment_name=deployment.environment,
        config_id=deployment.config_id,
        previous_config_id=deployment.previous_config_id,
        user_id=deployment.by and deployment.by.user_id,
        user_email=deployment.by and deployment.by.email,
        created_at=deployment.at,
    )
