"""Owned by `generation`: projects, config versions, what is deployed where."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from shared.contracts.chat import ChatMessage, InlineTool, LinkedTool, ResponseFormat
from shared.contracts.message import Command, Query, Value

Provider = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""Name of a provider. Which ones can be called is known to generation alone: one is a row there, and nothing here."""

Endpoint = Literal["complete", "chat", "edit"]


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
    tools: list[LinkedTool | InlineTool] | None = None


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

    Errors: NotFound (unknown project id or config id), Invalid (name and id disagree; neither config nor id).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    subject: ClassVar[str] = "generation.resolve"

    organisation: str
    project: ProjectRef
    config: Config | None = None
    config_id: str | None = None
    may_deploy: bool = False
    """Whether the caller may change deployments: then a project's first config is deployed at once."""


class Versions(Value):
    """Config versions, in no particular order; unknown ids are left out."""

    versions: list[ConfigVersion]


class GetVersions(Query[Versions]):
    """Config versions by id."""

    subject: ClassVar[str] = "generation.get_versions"

    organisation: str
    ids: list[str]


class Projects(Value):
    """Projects, in no particular order; unknown ids are left out."""

    projects: list[Project]


class GetProjects(Query[Projects]):
    """Projects by id."""

    subject: ClassVar[str] = "generation.get_projects"

    organisation: str
    ids: list[str]
