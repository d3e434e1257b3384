"""Owned by `generation`: projects, their config versions and their feedback types."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from shared import ids
from shared.contracts.chat import ChatMessage, ConfigTool, ResponseFormat
from shared.contracts.logs import Page
from shared.contracts.message import Command, Done, Event, Query
from shared.contracts.value import Value

Provider = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""Name of a provider. Which ones can be called is known to generation alone: one is a row there, and nothing here."""

Endpoint = Literal["complete", "chat", "edit"]

LONGEST_NAME = 255
"""Characters of the name of a new project, of a type of feedback, of a label. The contract has no limit for them, and
this one for the names of datasets and evaluators."""
MOST_FEEDBACK_TYPES = 100
"""Of a project."""
MOST_FEEDBACK_LABELS = 1000
"""Of a type."""


class ModelConfig(Value):
    """How to call a model. All fields but `name` and `description` make the version."""

    type: Literal["model"] = "model"
    name: str | None = None
    description: str | None = None
    provider: Provider = "openai"
    model: str
    max_tokens: int = -1
    """-1: what is left of the model's context window."""
    temperature: float = 1
    top_p: float = 1
    stop: str | list[str] | None = None
    presence_penalty: float = 0
    frequency_penalty: float = 0
    other: dict[str, Any] = {}
    """Merged into the provider call as it is."""
    seed: int | None = None
    response_format: ResponseFormat | None = None
    endpoint: Endpoint = "complete"
    prompt_template: str | None = None
    chat_template: list[ChatMessage] | None = None
    tools: list[ConfigTool] | None = None


class ToolConfig(Value):
    """A tool that was called outside the platform and logged."""

    type: Literal["tool"] = "tool"
    name: str
    description: str | None = None
    strict: bool | None = None
    parameters: dict[str, Any] | None = None
    source: Literal["organization", "inline"] | None = None
    source_code: str | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None


Config = Annotated[ModelConfig | ToolConfig, Field(discriminator="type")]


class ConfigVersion(Value):
    """A config as stored: one per distinct set of behaviour-defining fields within a project. Never changes."""

    id: str
    project_id: str
    config: Config
    created_at: datetime


class Project(Value):
    """One task: its versions, its logs."""

    id: str
    name: str
    config_type: Literal["model", "tool"] | None = None
    """Kind of the first config registered; None while there is none."""
    directory_id: str | None = None
    """As its author named it; Everloop itself has no directories."""
    created_at: datetime
    updated_at: datetime


class ProjectRef(Value):
    """How a caller names a project: by `name` (created when unknown), by `id`, or by both, which must agree."""

    name: str | None = None
    id: str | None = None


class Resolved(Value):
    """The project and config version of a log or a generation."""

    project: Project
    version: ConfigVersion


class Resolve(Command[Resolved]):
    """Find the project and config version, creating what does not exist. Repeating it gives the same ids.

    A project's first config is deployed at once if the principal may change deployments.

    Errors: NotFound (unknown project id or config id), Invalid (name and id disagree; neither config nor id).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    subject: ClassVar[str] = "generation.resolve"

    project: ProjectRef
    config: Config | None = None
    config_id: str | None = None
    may_deploy: bool = False
    """From senders that did not know principals: whether theirs may change deployments."""


class Versions(Value):
    """Config versions, in no particular order; unknown ids are left out."""

    versions: list[ConfigVersion]


class GetVersions(Query[Versions]):
    """Config versions by id."""

    subject: ClassVar[str] = "generation.get_versions"

    ids: list[str]


class Projects(Value):
    """Projects, in no particular order; unknown ids are left out."""

    projects: list[Project]


class GetProjects(Query[Projects]):
    """Projects by id."""

    subject: ClassVar[str] = "generation.get_projects"

    ids: list[str]


class VersionPage(Value):
    """A page of versions and how many there are in all."""

    versions: list[ConfigVersion]
    total: int


class ListVersions(Query[VersionPage]):
    """The versions of a project, newest first. Errors: NotFound."""

    subject: ClassVar[str] = "generation.list_versions"

    project_id: str
    page: Page = Page(size=100)


Sentiment = Literal["positive", "negative", "neutral", "unset"]
FeedbackClass = Literal["select", "multi_select", "text", "number"]


class FeedbackLabel(Value):
    """A value that may be chosen."""

    value: str
    sentiment: Sentiment | None = None
    """In a definition None leaves what it is, and a new label is `unset`; a stored one is never None."""


class FeedbackType(Value):
    """A kind of feedback that people may give in a project."""

    type: str
    kind: FeedbackClass | None = None
    """In a definition None leaves what it is; a new type is a `select` if it has labels, else `text`."""
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
"""What every project has (behaviour.md §7)."""


class FeedbackTypes(Value):
    """The kinds of feedback of a project, in the order of their definition."""

    types: list[FeedbackType]


class ProjectDetails(Value):
    """A project with what is set in it."""

    project: Project
    feedback_types: list[FeedbackType]
    active: ConfigVersion | None = None
    """Deployed in the default environment."""


class GetProject(Query[ProjectDetails]):
    """One project. Errors: NotFound."""

    subject: ClassVar[str] = "generation.get_project"

    id: str


class ProjectPage(Value):
    """A page of projects and how many there are in all."""

    projects: list[ProjectDetails]
    total: int


class ListProjects(Query[ProjectPage]):
    """The organisation's projects."""

    subject: ClassVar[str] = "generation.list_projects"

    page: Page = Page(size=10)
    name: str | None = None
    """A part of the name, upper and lower case alike."""
    sort_by: Literal["created_at", "updated_at", "name"] = "created_at"
    descending: bool = True


class CreateProject(Command[ProjectDetails]):
    """Make an empty project. A repeat with the same `id` is the same project.

    Errors: Conflict (the name is taken), Invalid (feedback types).
    """

    subject: ClassVar[str] = "generation.create_project"

    id: str = Field(default_factory=lambda: ids.mint("pr"))
    name: str
    directory_id: str | None = None
    feedback_types: list[FeedbackType] = []
    """Beside those that every project has."""


class UpdateProject(Command[ProjectDetails]):
    """Rename a project, move it, deploy one of its configs to the default environment; all of it or nothing.

    Errors: NotFound (project, config), Conflict (the name is taken), Invalid (a config of another project).
    """

    subject: ClassVar[str] = "generation.update_project"

    id: str
    name: str | None = None
    directory_id: str | None = None
    active_config_id: str | None = None


class DeleteProject(Command[Done]):
    """Delete a project with its configs, deployments and logs; its name is free at once.

    Errors: NotFound, Denied (something is deployed in it, and the principal may not change deployments).
    """

    subject: ClassVar[str] = "generation.delete_project"

    id: str
    may_undeploy: bool = False
    """From senders that did not know principals: whether theirs may change deployments."""


class DefineFeedbackTypes(Command[FeedbackTypes]):
    """Add kinds of feedback, or labels to those that are there; nothing is removed. Answers with all of the project.

    Errors: NotFound, Invalid (labels where there can be none, another class than it has).
    """

    subject: ClassVar[str] = "generation.define_feedback_types"

    project_id: str
    types: list[FeedbackType]


class ProjectChanged(Event):
    """Something about a project or the environments is different: what was remembered of it is void."""

    noun: ClassVar[str] = "project"
    happened: ClassVar[str] = "changed"

    what: Literal[
        "created", "renamed", "configured", "feedback types", "deployed", "undeployed", "deleted", "environments"
    ]
    """`configured`: its first config gave it its kind. `environments` is about all projects of the organisation.

    Closed, because it decides what is void: who does not know the word cannot read the event and forgets everything.
    """
    project_id: str | None = None
    """None when it is about all."""
