"""Messages and values owned by `generation`: environments, and which config is deployed in each."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from shared import ids
from shared.contracts.audit_actions import AuditAction
from shared.contracts.generation.projects import ConfigVersion, Project
from shared.contracts.logs import Page
from shared.contracts.message import Command, Done, Query
from shared.contracts.permissions import CHANGE_DEPLOYMENTS, EDIT_PROMPTS, MANAGE_ENVIRONMENTS, Permission
from shared.contracts.principal import Actor
from shared.contracts.value import Value


class Environment(Value):
    """An environment of the organisation; each project may have a config deployed in it."""

    id: str
    name: str
    default: bool
    """Whether calls that name no environment use it; exactly one environment of an organisation does."""
    created_at: datetime | None = None
    """None: it was created with the organisation."""


class Environments(Value):
    """The environments of an organisation, the default one first."""

    environments: list[Environment]


class ListEnvironments(Query[Environments]):
    """Return the environments of the organisation, at least one."""

    subject: ClassVar[str] = "generation.list_environments"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = ""


class CreateEnvironment(Command[Environment]):
    """Create an environment. A repeat with the same `id` is the same one. Raises Conflict if the name is taken."""

    subject: ClassVar[str] = "generation.create_environment"
    permission: ClassVar[Permission | None] = MANAGE_ENVIRONMENTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("environment.created",)

    id: str = Field(default_factory=lambda: ids.mint("env"))
    name: str


class UpdateEnvironment(Command[Environment]):
    """Rename an environment, make it the default one, or both. Raises NotFound, Conflict (the name is taken)."""

    subject: ClassVar[str] = "generation.update_environment"
    permission: ClassVar[Permission | None] = MANAGE_ENVIRONMENTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("environment.renamed", "environment.made_default")

    id: str
    name: str | None = None
    make_default: bool = False


class DeleteEnvironment(Command[Done]):
    """Delete an environment and its deployments. Raises NotFound, Conflict (it is the default one)."""

    subject: ClassVar[str] = "generation.delete_environment"
    permission: ClassVar[Permission | None] = MANAGE_ENVIRONMENTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("environment.deleted", "deployment.undeployed")

    id: str


class Deployed(Value):
    """An environment and the config deployed there, by id and name: whole configs could be too large for a message."""

    environment: Environment
    config_id: str | None = None
    """None: nothing is deployed."""
    config_name: str | None = None


class DeployedConfigs(Value):
    """A project and what is deployed in each environment."""

    project: Project
    deployed: list[Deployed]


class ListDeployed(Query[DeployedConfigs]):
    """Return what is deployed in each environment of a project. Raises NotFound."""

    subject: ClassVar[str] = "generation.list_deployed"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = "project_id"

    project_id: str


class ActiveConfig(Value):
    """The config version deployed in an environment of a project."""

    project: Project
    environment: Environment
    version: ConfigVersion


class GetActiveConfig(Query[ActiveConfig]):
    """Return the config version deployed in an environment.

    Raises NotFound if there is no such project or environment, or nothing is deployed there.
    """

    subject: ClassVar[str] = "generation.get_active"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = "project_id"

    project_id: str
    environment: str | None = None
    """Its name. None: the default one."""


class Deploy(Command[DeployedConfigs]):
    """Deploy a config of the project to environments, replacing what is deployed there; return these environments.

    Raises NotFound (project, config, environment), Invalid (a config of another project).
    """

    subject: ClassVar[str] = "generation.deploy"
    permission: ClassVar[Permission | None] = CHANGE_DEPLOYMENTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("deployment.deployed",)

    project_id: str
    config_id: str
    environment_ids: list[str] = []
    """Empty: the default one."""


class Undeploy(Command[Done]):
    """Remove what is deployed in an environment of the project, if anything is.

    Raises NotFound (project, environment).
    """

    subject: ClassVar[str] = "generation.undeploy"
    permission: ClassVar[Permission | None] = CHANGE_DEPLOYMENTS
    limited: ClassVar[str | None] = "project_id"
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("deployment.undeployed",)

    project_id: str
    environment_id: str | None = None
    environment: str | None = None
    """Its name, instead of its id. Neither: the default one."""


class Deployment(Value):
    """An entry of the deployment history: a deployment or a removal."""

    id: str
    environment_id: str
    environment: str | None = None
    """Its name now; None if it was deleted."""
    config_id: str | None = None
    """None: the config was removed."""
    previous_config_id: str | None = None
    by: Actor | None = None
    """None: unknown, from before actors were recorded."""
    at: datetime


class Deployments(Value):
    """A page of the deployment history of a project, and the total number of entries."""

    deployments: list[Deployment]
    total: int


class ListDeployments(Query[Deployments]):
    """Return a page of the deployment history of a project, newest first. Raises NotFound."""

    subject: ClassVar[str] = "generation.list_deployments"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = "project_id"

    project_id: str
    page: Page = Page()
