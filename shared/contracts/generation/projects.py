"""Messages and values owned by `generation`: projects, their config versions and their feedback types."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from shared import ids
from shared.contracts.audit_actions import AuditAction
from shared.contracts.chat import ChatMessage, ConfigTool, ResponseFormat, ToolSource, move_source_code
from shared.contracts.logs import Page
from shared.contracts.message import Command, Done, Event, Query
from shared.contracts.permissions import EDIT_PROMPTS, Permission
from shared.contracts.principal import Service
from shared.contracts.value import Value

Provider = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""Name of a provider. Generation alone knows which ones can be called, so a new one needs no change here."""

Endpoint = Literal["complete", "chat", "edit"]

MAX_NAME_CHARACTERS = 255
"""Of the name of a new project, a feedback type, a label. The contract has no limit for these; it has this one for the
names of datasets and evaluators."""
MAX_FEEDBACK_TYPES = 100
"""Of a project."""
MAX_FEEDBACK_LABELS = 1000
"""Of a feedback type."""


class ModelConfig(Value):
    """How to call a model. All fields but `name` and `description` identify the version."""

    type: Literal["model"] = "model"
    name: str | None = None
    description: str | None = None
    provider: Provider = "openai"
    model: str
    max_tokens: int = -1
    """Tokens of the answer. -1: what the prompt leaves of the model's context window."""
    temperature: float = 1
    top_p: float = 1
    stop: str | list[str] | None = None
    presence_penalty: float = 0
    frequency_penalty: float = 0
    other: dict[str, Any] = {}
    """Merged into the body of the provider request unchanged."""
    seed: int | None = None
    response_format: ResponseFormat | None = None
    endpoint: Endpoint = "complete"
    prompt_template: str | None = None
    chat_template: list[ChatMessage] | None = None
    tools: list[ConfigTool] | None = None


class ToolConfig(Value):
    """A tool that is called outside the platform, whose calls are logged."""

    type: Literal["tool"] = "tool"
    name: str
    description: str | None = None
    strict: bool | None = None
    parameters: dict[str, Any] | None = None
    source: ToolSource | None = None
    source_code: str | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None

    _move_source_code = model_validator(mode="before")(move_source_code)


class AgentConfig(Value):
    """An agent that runs outside the platform, whose steps are logged. `name` and `description` do not identify it."""

    type: Literal["agent"] = "agent"
    name: str | None = None
    description: str | None = None
    agent_class: str
    model: ModelConfig
    """In the published contract `model_config`."""
    tools: list[ToolConfig] = []
    other: dict[str, Any] | None = None


class GenericConfig(Value):
    """Whatever else produces what is logged."""

    type: Literal["generic"] = "generic"
    name: str | None = None
    description: str | None = None
    other: dict[str, Any] | None = None


Config = Annotated[ModelConfig | ToolConfig | AgentConfig | GenericConfig, Field(discriminator="type")]
ConfigType = Literal["model", "tool", "agent", "generic"]


def model_of(config: Config) -> str | None:
    """Return the name of the model that a config calls; None if it calls none."""
    match config:
        case ModelConfig():
            return config.model
        case AgentConfig():
            return config.model.model
    return None


class ConfigVersion(Value):
    """A stored config: one for each distinct set of identifying fields in a project. It never changes."""

    id: str
    project_id: str
    config: Config
    created_at: datetime


class Project(Value):
    """A project; config versions and logs belong to it."""

    id: str
    name: str
    config_type: ConfigType | None = None
    """Kind of the first config; None while the project has none."""
    directory_id: str | None = None
    """Kept as given; Everloop has no directories."""
    created_at: datetime
    updated_at: datetime


class ProjectRef(Value):
    """Names a project by `name` (created if there is none), by `id`, or by both, which must agree."""

    name: str | None = None
    id: str | None = None


class ResolvedConfig(Value):
    """The project and config version of a log or a generation."""

    project: Project
    version: ConfigVersion


class ResolveConfig(Command[ResolvedConfig]):
    """Find the project and config version, creating what does not exist. A repeat returns the same ids.

    A project's first config is deployed at once if the principal may change deployments.

    Raises NotFound (project id, config id), Invalid (name and id disagree; neither config nor config id).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    subject: ClassVar[str] = "generation.resolve"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = ""
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("project.created", "deployment.deployed")

    project: ProjectRef
    config: Config | None = None
    config_id: str | None = None


class Versions(Value):
    """Config versions, in no particular order; unknown ids are left out."""

    versions: list[ConfigVersion]


class GetVersions(Query[Versions]):
    """Return config versions by id."""

    subject: ClassVar[str] = "generation.get_versions"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    services: ClassVar[frozenset[Service]] = frozenset({"gateway"})

    ids: list[str]


class Projects(Value):
    """Projects, in no particular order; unknown ids are left out."""

    projects: list[Project]


class GetProjects(Query[Projects]):
    """Return projects by id."""

    subject: ClassVar[str] = "generation.get_projects"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    services: ClassVar[frozenset[Service]] = frozenset({"gateway"})

    ids: list[str]


class VersionPage(Value):
    """A page of config versions, and the total number."""

    versions: list[ConfigVersion]
    total: int


class ListVersions(Query[VersionPage]):
    """Return a page of the config versions of a project, newest first. Raises NotFound."""

    subject: ClassVar[str] = "generation.list_versions"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = "project_id"

    project_id: str
    page: Page = Page(size=100)


Sentiment = Literal["positive", "negative", "neutral", "unset"]
FeedbackClass = Literal["select", "multi_select", "text", "number"]


class FeedbackLabel(Value):
    """A value of a `select` or `multi_select` feedback type."""

    value: str
    sentiment: Sentiment | None = None
    """None in `DefineFeedbackTypes`: the stored one is kept, a new label is `unset`. A stored one is never None."""


class FeedbackType(Value):
    """A type of feedback in a project."""

    type: str
    kind: FeedbackClass | None = None
    """None in `DefineFeedbackTypes`: the stored one is kept, a new type is `select` if it has labels, else `text`."""
    labels: list[FeedbackLabel] = []
    """Of `select` and `multi_select`."""


STANDARD_FEEDBACK: tuple[FeedbackType, ...] = (
    FeedbackType(
        type="rating",
        kind="select",
        labels=[
            FeedbackLabel(value="good", sentiment="positive"),
            FeedbackLabel(value="bad", sentiment="negative"),
        ],
    ),
    FeedbackType(type="action", kind="multi_select"),
    FeedbackType(type="issue", kind="multi_select"),
    FeedbackType(type="correction", kind="text"),
    FeedbackType(type="comment", kind="text"),
)
"""The feedback types of every project (behaviour.md §7)."""


class FeedbackTypes(Value):
    """The feedback types of a project, in the order of their definition."""

    types: list[FeedbackType]


class ProjectDetails(Value):
    """A project with its feedback types and its active config."""

    project: Project
    feedback_types: list[FeedbackType]
    active: ConfigVersion | None = None
    """The config version deployed in the default environment, if any."""


class GetProject(Query[ProjectDetails]):
    """Return a project. Raises NotFound."""

    subject: ClassVar[str] = "generation.get_project"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = "id"
    services: ClassVar[frozenset[Service]] = frozenset({"gateway"})

    id: str


class ProjectPage(Value):
    """A page of projects, and the total number."""

    projects: list[ProjectDetails]
    total: int


class ListProjects(Query[ProjectPage]):
    """Return a page of the organisation's projects."""

    subject: ClassVar[str] = "generation.list_projects"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = ""

    page: Page = Page(size=10)
    name: str | None = None
    """Only projects whose name contains this, case-insensitive."""
    sort_by: Literal["created_at", "updated_at", "name"] = "created_at"
    descending: bool = True


class CreateProject(Command[ProjectDetails]):
    """Create an empty project. A repeat with the same `id` is the same project.

    Raises Conflict (the name is taken), Invalid (feedback types).
    """

    subject: ClassVar[str] = "generation.create_project"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("project.created",)

    id: str = Field(default_factory=lambda: ids.mint("pr"))
    name: str
    directory_id: str | None = None
    feedback_types: list[FeedbackType] = []
    """In addition to `STANDARD_FEEDBACK`."""


class UpdateProject(Command[ProjectDetails]):
    """Rename a project, move it, deploy one of its configs to the default environment; all of it or nothing.

    Raises NotFound (project, config), Conflict (the name is taken), Invalid (a config of another project).
    """

    subject: ClassVar[str] = "generation.update_project"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("project.renamed", "project.moved", "deployment.deployed")

    id: str
    name: str | None = None
    directory_id: str | None = None
    active_config_id: str | None = None


class DeleteProject(Command[Done]):
    """Delete a project with its configs, deployments and logs; its name is free at once.

    Raises NotFound, Denied (something is deployed in it, and the principal may not change deployments).
    """

    subject: ClassVar[str] = "generation.delete_project"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("project.deleted",)

    id: str


class DefineFeedbackTypes(Command[FeedbackTypes]):
    """Add feedback types, or labels to existing ones; nothing is removed. Return all feedback types of the project.

    Raises NotFound, Invalid (labels of a type that has none, another `kind` than the stored one).
    """

    subject: ClassVar[str] = "generation.define_feedback_types"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = "project_id"
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("feedback_types.defined",)
    services: ClassVar[frozenset[Service]] = frozenset({"gateway"})

    project_id: str
    types: list[FeedbackType]


class ProjectChanged(Event):
    """A project, its configs or deployments, or the environments changed: what is cached of them is void."""

    noun: ClassVar[str] = "project"
    past_participle: ClassVar[str] = "changed"

    what: Literal[
        "created", "renamed", "configured", "feedback types", "deployed", "undeployed", "deleted", "environments"
    ]
    """`configured`: the first config set the project's kind. `environments` concerns all projects of the organisation.

    It decides what is void: a subscriber to which a value is new cannot read the event and drops everything.
    """
    project_id: str | None = None
    """None: all projects of the organisation."""
