"""Request and response models of model and tool configs."""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from services.gateway.schemas.bodies import RequestBody, StrictRequestBody
from shared import ids
from shared.contracts.chat import ChatMessage, ConfigTool, InlineTool, LinkedTool, ResponseFormat
from shared.contracts.generation.projects import (
    Config,
    ConfigVersion,
    Endpoint,
    ModelConfig,
    Project,
    ProjectRef,
    Provider,
    ToolConfig,
)
from shared.contracts.logs import ConfigUse
from shared.errors import NotFound

PublicProvider = Literal[
    "openai", "openai_azure", "mock", "anthropic", "bedrock", "cohere", "replicate", "google", "groq"
]
"""The names in the published contract. Its clients parse a config with any other provider as a plain dict."""


class _ModelConfigFields(StrictRequestBody):
    name: str | None = None
    description: str | None = None
    provider: Provider = "openai"
    provider_name: Provider | None = Field(
        None, description="Instead of `provider`; responses have it for providers that the published contract lacks."
    )
    model: str = Field(min_length=1)
    max_tokens: int = Field(-1, ge=-1, description="-1: what is left of the model's context window.")
    temperature: float = 1
    top_p: float = 1
    stop: str | list[str] | None = None
    presence_penalty: float = 0
    frequency_penalty: float = 0
    other: dict[str, Any] = {}
    seed: int | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _check_provider(self) -> "_ModelConfigFields":
        if self.provider_name is not None:
            if "provider" in self.model_fields_set and self.provider != self.provider_name:
                raise ValueError("provider and provider_name are not the same: send one of them")
            self.provider = self.provider_name
        return self

    def to_config(self) -> ModelConfig:
        """Return the config as it is sent to generation."""
        return ModelConfig.model_validate(
            {name: value for name, value in self if name in ModelConfig.model_fields and name != "type"}
        )


class ModelConfigChatRequest(_ModelConfigFields):
    """Inline config of a chat call."""

    endpoint: Endpoint = "chat"
    chat_template: list[ChatMessage] | None = None
    tools: list[ConfigTool] | None = None


class ModelConfigCompletionRequest(_ModelConfigFields):
    """Inline config of a completion call."""

    endpoint: Endpoint = "complete"
    prompt_template: str | None = None


class ModelConfigRequest(_ModelConfigFields):
    """Model config of a log."""

    type: Literal["model"] = "model"
    endpoint: Endpoint = "complete"
    prompt_template: str | None = None
    chat_template: list[ChatMessage] | None = None
    tools: list[ConfigTool] | None = None


class ProjectModelConfigRequest(_ModelConfigFields):
    """A config to register in a project."""

    project: str | None = Field(None, min_length=1)
    project_id: str | None = None
    endpoint: Endpoint = "complete"
    prompt_template: str | None = None
    chat_template: list[ChatMessage] | None = None
    tools: list[ConfigTool] | None = None

    def project_ref(self) -> ProjectRef:
        """Return the name and id of the project as sent."""
        return ProjectRef(name=self.project, id=self.project_id)


class PromptConfigRequest(_ModelConfigFields):
    """A model config to serialize: the fields of a chat's and of a completion's."""

    endpoint: Endpoint | None = Field(None, description="By default `complete` with a prompt alone, else `chat`.")
    prompt_template: str | None = None
    chat_template: list[ChatMessage] | None = None
    tools: list[ConfigTool] | None = None

    def to_config(self) -> ModelConfig:
        """Return the config as it is sent to generation."""
        prompt_alone = self.prompt_template is not None and self.chat_template is None
        endpoint = self.endpoint or ("complete" if prompt_alone else "chat")
        return ModelConfig.model_validate({**dict(self), "endpoint": endpoint})


class PromptFileRequest(RequestBody):
    """A `.prompt` file to parse."""

    config: str = Field(description="The text of a `.prompt` file.")


class ToolConfigRequest(RequestBody):
    """Tool config of a log."""

    type: Literal["tool"]
    name: str = Field(min_length=1)
    description: str | None = None
    strict: bool | None = None
    parameters: dict[str, Any] | None = None
    source: Literal["organization", "inline"] | None = None
    source_code: str | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None

    def to_config(self) -> ToolConfig:
        """Return the config as it is sent to generation."""
        return ToolConfig.model_validate(dict(self))


def _config_tag(value: Any) -> str:  # noqa: ANN401 - anything may arrive
    """Return the union tag; a config without `type` is a model config (behaviour.md §5.1)."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "a model config" if kind is None else f"a {kind} config"


ConfigRequest = Annotated[
    Annotated[ModelConfigRequest, Tag("a model config")] | Annotated[ToolConfigRequest, Tag("a tool config")],
    Discriminator(
        _config_tag,
        custom_error_type="config_type",
        custom_error_message="config.type must be 'model' or 'tool'",
    ),
]


class ToolResponse(BaseModel):
    """A tool of a model config.

    Fields from `strict` on are not in the published contract: with them a config that was read can be registered again.
    """

    id: str
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    source: str | None = None
    strict: bool | None = None
    source_code: str | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None


class ToolConfigResponse(BaseModel):
    """A version of a tool config."""

    id: str
    type: Literal["tool"] = "tool"
    status: Literal["committed"] = "committed"
    name: str
    description: str | None = None
    source: str | None = None
    source_code: str | None = None
    parameters: dict[str, Any] | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None


class ModelConfigResponse(BaseModel):
    """A version of a model config, its parameters beside its id."""

    id: str
    type: Literal["model"] = "model"
    name: str | None = None
    description: str | None = None
    provider: PublicProvider | None = None
    provider_name: str | None = Field(None, description="The provider, if the published contract lacks it.")
    model: str
    max_tokens: int
    temperature: float
    top_p: float
    stop: str | list[str] | None = None
    presence_penalty: float
    frequency_penalty: float
    other: dict[str, Any]
    seed: int | None = None
    response_format: ResponseFormat | None = None
    endpoint: Endpoint
    prompt_template: str | None = None
    chat_template: list[ChatMessage] | None = None
    tools: list[ToolResponse] = []
    tool_configs: list[ToolConfigResponse] = Field(
        [], json_schema_extra={"deprecated": True}, description="Those of `tools` that are inline."
    )


class GenericConfigResponse(BaseModel):
    """A placeholder for a version that was deleted with its project."""

    id: str
    type: Literal["generic"] = "generic"
    name: str = "deleted"
    status: Literal["deleted"] = "deleted"


ConfigResponse = ModelConfigResponse | ToolConfigResponse | GenericConfigResponse


class ProjectConfigResponse(BaseModel):
    """A config version with its project and how much it was used."""

    project_id: str
    project_name: str
    created_at: datetime
    updated_at: datetime
    last_used: datetime
    num_datapoints: int
    config: ModelConfigResponse | ToolConfigResponse


def config_response(config_id: str, config: Config) -> ModelConfigResponse | ToolConfigResponse:
    """Return the response model of a config."""
    if isinstance(config, ToolConfig):
        return ToolConfigResponse(id=config_id, **config.model_dump(exclude={"type", "strict"}))
    return model_config_response(config_id, config)


def _tool_response(tool: ConfigTool) -> ToolResponse:
    fields = tool.model_dump(exclude_none=True) | {"id": _tool_id(tool)}
    if isinstance(tool, LinkedTool):
        return ToolResponse.model_validate({"name": tool.id} | fields)
    return ToolResponse.model_validate(fields | {"source": "inline"})


def _tool_id(tool: ConfigTool) -> str:
    if isinstance(tool, LinkedTool):
        return tool.id
    return ids.derive("config", "tool", tool.model_dump_json(exclude_none=True))


def version_response(config_id: str, version: ConfigVersion | None) -> ConfigResponse:
    """Return the response model of a log's config; a placeholder if `version` is None, deleted with its project."""
    return GenericConfigResponse(id=config_id) if version is None else config_response(version.id, version.config)


def require_model_config(version: ConfigVersion) -> ModelConfig:
    """Return the model config of `version`. Raises NotFound if it has a tool config."""
    if isinstance(version.config, ToolConfig):
        raise NotFound(f"{version.id!r} is the config of a tool, not of a model.")
    return version.config


def model_config_response(config_id: str, config: ModelConfig) -> ModelConfigResponse:
    """Return the response model of a model config; inline tools are repeated in the deprecated `tool_configs`."""
    fields = config.model_dump(exclude={"tools", "type"}, exclude_none=True)
    if config.provider not in get_args(PublicProvider):
        fields["provider_name"] = fields.pop("provider")
    tools = config.tools or ()
    inline = [_tool_response(tool) for tool in tools if isinstance(tool, InlineTool)]
    return ModelConfigResponse(
        id=config_id,
        tools=[_tool_response(tool) for tool in tools],
        tool_configs=[ToolConfigResponse(**tool.model_dump(exclude={"strict"})) for tool in inline],
        **fields,
    )


def project_config_response(project: Project, version: ConfigVersion, use: ConfigUse | None) -> ProjectConfigResponse:
    """Return the response model of a version in its project; `last_used` is its creation if it was never used."""
    return ProjectConfigResponse(
        project_id=project.id,
        project_name=project.name,
        created_at=version.created_at,
        updated_at=version.created_at,
        last_used=(use and use.last_used) or version.created_at,
        num_datapoints=use.logs if use else 0,
        config=config_response(version.id, version.config),
    )
