"""Response models of configs and their versions."""

from datetime import datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from shared import ids
from shared.contracts.chat import ChatMessage, ConfigTool, InlineTool, LinkedTool, ResponseFormat, ToolSource
from shared.contracts.generation.projects import (
    AgentConfig,
    Config,
    ConfigVersion,
    Endpoint,
    GenericConfig,
    ModelConfig,
    Project,
    ToolConfig,
)
from shared.contracts.logs import ConfigUse
from shared.errors import NotFound

PublicProvider = Literal[
    "openai", "openai_azure", "mock", "anthropic", "bedrock", "cohere", "replicate", "google", "groq"
]
"""The names in the published contract. Its clients parse a config with any other provider as a plain dict."""


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
    source: ToolSource | None = None
    source_code: str | None = None
    parameters: dict[str, Any] | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None


class _ModelConfigResponseFields(BaseModel):
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


class ModelConfigResponse(_ModelConfigResponseFields):
    """A version of a model config, its parameters beside its id."""

    id: str
    tools: list[ToolResponse] = []
    tool_configs: list[ToolConfigResponse] = Field(
        [], json_schema_extra={"deprecated": True}, description="Those of `tools` that are inline."
    )


class AgentModelConfigResponse(_ModelConfigResponseFields):
    """The model config of an agent. It is no version of its own."""

    tools: list[ConfigTool] | None = None


class AgentConfigResponse(BaseModel):
    """A version of an agent's config."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    id: str
    type: Literal["agent"] = "agent"
    status: Literal["committed"] = "committed"
    name: str
    """Its class if it has no name: clients require one."""
    description: str | None = None
    agent_class: str
    inner_config: AgentModelConfigResponse = Field(alias="model_config")
    tools: list[ToolConfig] = []
    other: dict[str, Any] | None = None


class GenericConfigResponse(BaseModel):
    """A version of any other config; also the placeholder for a version that was deleted with its project."""

    id: str
    type: Literal["generic"] = "generic"
    status: Literal["committed", "deleted"] = "committed"
    name: str
    description: str | None = None
    other: dict[str, Any] | None = None


ConfigResponse = ModelConfigResponse | ToolConfigResponse | AgentConfigResponse | GenericConfigResponse


class EvaluatorAggregateResponse(BaseModel):
    """What an evaluator found of a config version, over all of its logs."""

    model_config_id: str
    evaluator_id: str
    evaluator_version_id: str
    aggregate_value: float | None


class ProjectConfigResponse(BaseModel):
    """A config version with its project and how much it was used."""

    project_id: str
    project_name: str
    created_at: datetime
    updated_at: datetime
    last_used: datetime
    num_datapoints: int
    config: ConfigResponse
    evaluation_aggregates: list[EvaluatorAggregateResponse] | None = None
    """None: not asked for. There are no evaluators yet, so otherwise it is empty."""


def config_response(config_id: str, config: Config) -> ConfigResponse:
    """Return the response model of a config."""
    match config:
        case ModelConfig():
            return model_config_response(config_id, config)
        case ToolConfig():
            return ToolConfigResponse(id=config_id, **config.model_dump(exclude={"type", "strict"}))
        case AgentConfig():
            fields = dict(config) | {"name": config.name or config.agent_class, "id": config_id}
            inner = AgentModelConfigResponse(tools=config.model.tools, **_model_fields(config.model))
            return AgentConfigResponse(inner_config=inner, **fields)
        case GenericConfig():
            return GenericConfigResponse(id=config_id, **dict(config) | {"name": config.name or config.type})


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
    if version is None:
        return GenericConfigResponse(id=config_id, name="deleted", status="deleted")
    return config_response(version.id, version.config)


def require_model_config(version: ConfigVersion) -> ModelConfig:
    """Return the model config of `version`. Raises NotFound if it has a config of another type."""
    if not isinstance(version.config, ModelConfig):
        raise NotFound(f"{version.id!r} is a config of the type {version.config.type!r}, not of a model.")
    return version.config


def model_config_response(config_id: str, config: ModelConfig) -> ModelConfigResponse:
    """Return the response model of a model config; inline tools are repeated in the deprecated `tool_configs`."""
    tools = config.tools or ()
    inline = [_tool_response(tool) for tool in tools if isinstance(tool, InlineTool)]
    return ModelConfigResponse(
        id=config_id,
        tools=[_tool_response(tool) for tool in tools],
        tool_configs=[ToolConfigResponse(**tool.model_dump(exclude={"strict"})) for tool in inline],
        **_model_fields(config),
    )


def _model_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of a config that are answered as they are; a provider the contract lacks as `provider_name`."""
    fields = config.model_dump(exclude={"tools", "type"}, exclude_none=True)
    if config.provider not in get_args(PublicProvider):
        fields["provider_name"] = fields.pop("provider")
    return fields


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
