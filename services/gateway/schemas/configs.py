"""Request models of configs: of models, tools, agents and anything else that is logged."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from services.gateway.schemas.bodies import Messages, RequestBody, StrictRequestBody
from shared.contracts.chat import (
    ConfigTool,
    ResponseFormat,
    ToolSource,
    move_source_code,
)
from shared.contracts.generation.projects import (
    AgentConfig,
    Endpoint,
    GenericConfig,
    ModelConfig,
    ProjectRef,
    Provider,
    ToolConfig,
)
from shared.contracts.value import Array


class _ModelConfigFields(StrictRequestBody):
    type: Literal["model"] = "model"
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
    stop: str | Array[str] | None = None
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
        return ModelConfig.model_validate({name: value for name, value in self if name in ModelConfig.model_fields})


class ModelConfigChatRequest(_ModelConfigFields):
    """Inline config of a chat call."""

    endpoint: Endpoint = Field("chat", description="Whatever it says, the config is stored with `chat`.")
    chat_template: Messages | None = None
    tools: Array[ConfigTool] | None = None

    def to_config(self) -> ModelConfig:
        """Return the config as it is sent to generation."""
        return super().to_config().model_copy(update={"endpoint": "chat"})


class ModelConfigCompletionRequest(_ModelConfigFields):
    """Inline config of a completion call."""

    endpoint: Endpoint = Field("complete", description="Whatever it says, the config is stored with `complete`.")
    prompt_template: str | None = None

    def to_config(self) -> ModelConfig:
        """Return the config as it is sent to generation."""
        return super().to_config().model_copy(update={"endpoint": "complete"})


class ModelConfigRequest(_ModelConfigFields):
    """Model config of a log or of an agent."""

    endpoint: Endpoint = "complete"
    prompt_template: str | None = None
    chat_template: Messages | None = None
    tools: Array[ConfigTool] | None = None


class ProjectModelConfigRequest(_ModelConfigFields):
    """A config to register in a project."""

    project: str | None = Field(None, min_length=1)
    project_id: str | None = None
    endpoint: Endpoint = "complete"
    prompt_template: str | None = None
    chat_template: Messages | None = None
    tools: Array[ConfigTool] | None = None
    experiment: str | None = Field(None, description="Always refused; from clients up to 0.7.0.")

    @model_validator(mode="after")
    def _refuse_experiments(self) -> "ProjectModelConfigRequest":
        if self.experiment is not None:
            raise ValueError("experiment: there are no experiments here; leave it out")
        return self

    def project_ref(self) -> ProjectRef:
        """Return the name and id of the project as sent."""
        return ProjectRef(name=self.project, id=self.project_id)


class PromptConfigRequest(_ModelConfigFields):
    """A model config to serialize: the fields of a chat's and of a completion's."""

    endpoint: Endpoint | None = Field(None, description="By default `complete` with a prompt alone, else `chat`.")
    prompt_template: str | None = None
    chat_template: Messages | None = None
    tools: Array[ConfigTool] | None = None

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
    source: ToolSource | None = Field(None, description="Another text, as clients before 0.6 send, is `source_code`.")
    source_code: str | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None

    _move_source_code = model_validator(mode="before")(move_source_code)

    def to_config(self) -> ToolConfig:
        """Return the config as it is sent to generation."""
        return ToolConfig.model_validate(dict(self))


class AgentConfigRequest(RequestBody):
    """Config of an agent's log."""

    type: Literal["agent"]
    name: str | None = None
    description: str | None = None
    agent_class: str = Field(min_length=1)
    inner_config: ModelConfigRequest = Field(alias="model_config")
    tools: Array[ToolConfigRequest] = []
    other: dict[str, Any] | None = None

    def to_config(self) -> AgentConfig:
        """Return the config as it is sent to generation."""
        return AgentConfig(
            name=self.name,
            description=self.description,
            agent_class=self.agent_class,
            model=self.inner_config.to_config(),
            tools=[tool.to_config() for tool in self.tools],
            other=self.other,
        )


class GenericConfigRequest(RequestBody):
    """Config of the log of anything else."""

    type: Literal["generic"]
    name: str | None = None
    description: str | None = None
    other: dict[str, Any] | None = None

    def to_config(self) -> GenericConfig:
        """Return the config as it is sent to generation."""
        return GenericConfig.model_validate(dict(self))


def _config_tag(value: Any) -> str:  # noqa: ANN401 - anything may arrive
    """Return the union tag; a config without `type` is a model config (behaviour.md §5.1)."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "a model config" if kind is None else f"a {kind} config"


ConfigRequest = Annotated[
    Annotated[ModelConfigRequest, Tag("a model config")]
    | Annotated[ToolConfigRequest, Tag("a tool config")]
    | Annotated[AgentConfigRequest, Tag("a agent config")]
    | Annotated[GenericConfigRequest, Tag("a generic config")],
    Discriminator(
        _config_tag,
        custom_error_type="config_type",
        custom_error_message="config.type must be 'model', 'tool', 'agent' or 'generic'",
    ),
]
