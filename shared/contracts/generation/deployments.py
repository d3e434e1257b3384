"""Owned by `generation`: environments, and which config is deployed where."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from shared import ids
from shared.contracts.generation.projects import ConfigVersion, Project
from shared.contracts.logs import Page
from shared.contracts.message import Command, Done, Query
from shared.contracts.principal import Actor
from shared.contracts.value import Value


class Environment(Value):
    """A place to deploy to, in every project of the organisation."""

    id: str
    name: str
    default: bool
    """Meant by calls that name none. Exactly one is."""
    created_at: datetime | None = None
    """None: it has been there from the beginning."""


class Environments(Value):
    """The environments of an organisation, the default one first."""

    environments: list[Environment]


class ListEnvironments(Query[Environments]):
    """Every organisation has at least one."""

    subject: ClassVar[str] = "generation.list_environments"


class CreateEnvironment(Command[Environment]):
    """Make an environment. A repeat with the same `id` is the same one. Errors: Conflict (the name is taken)."""

    subject: ClassVar[str] = "generation.create_environment"

    id: str = Field(default_factory=lambda: ids.mint("env"))
    name: str


class UpdateEnvironment(Command[Environment]):
    """Rename an environment, make it the default one, or both. Errors: NotFound, Conflict (the name is taken)."""

    subject: ClassVar[str] = "generation.update_environment"

    id: str
    name: str | None = None
    make_default: bool = False


class DeleteEnvironment(Command[Done]):
    """Remove an environment and what is deployed in it. Errors: NotFound, Conflict (it is the default one)."""

    subject: ClassVar[str] = "generation.delete_environment"

    id: str


class Deployed(Value):
    """An environment of a project, and what is deployed there; whole configs would be too large for a message."""

    environment: Environment
    config_id: str | None = None
    """None: nothing."""
    config_name: str | None = None


class DeployedConfigs(Value):
    """A project and its environments."""

    project: Project
    deployed: list[Deployed]


class ListDeployed(Query[DeployedConfigs]):
    """What is deployed in each environment of a project. Errors: NotFound."""

    subject: ClassVar[str] = "generation.list_deployed"

    project_id: str


class Active(Value):
    """The config that calls in an environment use."""

    project: Project
    environment: Environment
    version: ConfigVersion


class GetActive(Query[Active]):
    """What is deployed in an environment, the default one if None. Errors: NotFound (project, environment, nothing)."""

    subject: ClassVar[str] = "generation.get_active"

    project_id: str
    environment: str | None = None
    """Its name."""


class Deploy(Command[DeployedConfigs]):
    """Put a config of the project into environments, in place of what is there. Answers with these environments.

    Errors: NotFound (project, config, environment), Invalid (a config of another project).
    """

    subject: ClassVar[str] = "generation.deploy"

    project_id: str
    config_id: str
    environment_ids: list[str] = []
    """None of them: the default one."""


class Undeploy(Command[Done]):
    """Leave an environment of the project without a config; nothing happens if it has none.

    Errors: NotFound (project, environment).
    """

    subject: ClassVar[str] = "generation.undeploy"

    project_id: str
    environment_id: str | None = None
    environment: str | None = None
    """Its name. Neither: the default one."""


class Deployment(Value):
    """One change of what is deployed."""

    id: str
    environment_id: str
    environment: str | None = None
    """Its name now; None if it was deleted."""
    config_id: str | None = None
    """None: what was there was removed."""
    previous_config_id: str | None = None
    by: Actor | None = None
    """None: nobody was named."""
    at: datetime


class Deployments(Value):
    """A page of the history of a project and how many entries there are in all."""

    deployments: list[Deployment]
    total: int


class ListDeployments(Query[Deployments]):
    """Who deployed and removed what in a project, newest first. Errors: NotFound."""

    subject: ClassVar[str] = "generation.list_deployments"

    project_id: str
    page: Page = Page()
