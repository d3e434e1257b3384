"""Request models of the six chat and completion operations (behaviour.md §4.1, §4.2)."""

from abc import ABC, abstractmethod
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from services.gateway.schemas.bodies import LogPlacement, Messages, StrictRequestBody
from services.gateway.schemas.configs import ModelConfigChatRequest, ModelConfigCompletionRequest
from shared import ids
from shared.contracts.chat import (
    FunctionChoice,
    FunctionName,
    ResponseFormat,
    ToolChoice,
)
from shared.contracts.generation.generations import Chat, Complete, Generate
from shared.contracts.generation.projects import Provider
from shared.contracts.principal import Principal
from shared.errors import Invalid

DEPRECATED: JsonDict = {"deprecated": True}
"""Marks a field in the OpenAPI schema only: pydantic's own flag warns whenever the server itself reads the field."""
MAX_NUM_SAMPLES = 128
"""OpenAI's own limit of `n`."""

ProviderKey = Annotated[str, Field(pattern=r"^[\x21-\x7e]*$")]
"""Visible ASCII, because it is sent in an HTTP header."""


class ProviderApiKeys(StrictRequestBody):
    """Provider keys for this request only, never stored. Providers that the contract lacks are added by their name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[Provider, ProviderKey]

    openai: ProviderKey | None = None
    ai21: ProviderKey | None = None
    mock: ProviderKey | None = None
    anthropic: ProviderKey | None = None
    bedrock: ProviderKey | None = None
    cohere: ProviderKey | None = None
    openai_azure: ProviderKey | None = None
    openai_azure_endpoint: ProviderKey | None = None


class GenerateRequest(LogPlacement, StrictRequestBody, ABC):
    """The fields of every generation request."""

    inputs: dict[str, Any] = {}
    source: str | None = None
    metadata: dict[str, Any] | None = None
    save: bool = Field(True, description="False: no inputs, messages, outputs or provider bodies are stored.")
    source_datapoint_id: str | None = None
    provider_api_keys: ProviderApiKeys | None = None
    num_samples: int = Field(1, ge=1, le=MAX_NUM_SAMPLES)
    stream: bool = False
    user: str | None = None
    seed: int | None = Field(None, json_schema_extra=DEPRECATED)
    return_inputs: bool = True

    def command_fields(self, caller: Principal) -> dict[str, Any]:
        """Return the fields that `Chat` and `Complete` share, new log ids included; never `provider_api_keys`."""
        references = {"session": self.session_reference_id, "parent": self.parent_reference_id}
        return {
            "principal": caller,
            "project": self.project_ref(),
            "user": self.user,
            "inputs": self.inputs,
            "num_samples": self.num_samples,
            "stream": self.stream,
            "seed": self.seed,
            "source": self.source,
            "metadata": self.metadata,
            "save": self.save,
            "source_datapoint_id": self.source_datapoint_id,
            "session_id": self.resolve_session_id(caller),
            "parent_id": self.resolve_parent_id(caller),
            "reference_ids": {name: value for name, value in references.items() if value is not None},
            "log_ids": [ids.mint("data") for _ in range(self.num_samples)],
        } | self.config_fields()

    @abstractmethod
    def config_fields(self) -> dict[str, Any]:
        """Return the fields of the command that name the config to use."""

    @abstractmethod
    def command(self, caller: Principal) -> Generate:
        """Return the command for generation, without provider keys."""


class AnyChat(GenerateRequest):
    """The fields of the three chat requests."""

    messages: Messages
    tool_choice: ToolChoice | None = None
    tool_call: str | FunctionName | None = Field(None, json_schema_extra=DEPRECATED)
    response_format: ResponseFormat | None = None

    def effective_tool_choice(self) -> ToolChoice | None:
        """Return `tool_choice`, else what the deprecated `tool_call` means. Raises Invalid if that is unknown."""
        if self.tool_choice is not None or self.tool_call is None:
            return self.tool_choice
        if isinstance(self.tool_call, FunctionName):
            return FunctionChoice(function=self.tool_call)
        if self.tool_call == "none":
            return "none"
        if self.tool_call == "auto":
            return "auto"
        raise Invalid('tool_call must be "none", "auto" or {"name": …}; better, use tool_choice.')

    def command(self, caller: Principal) -> Generate:
        return Chat(
            **self.command_fields(caller),
            messages=self.messages,
            tool_choice=self.effective_tool_choice(),
            response_format=self.response_format,
        )


class AnyCompletion(GenerateRequest):
    """The fields of the three completion requests."""

    logprobs: int | None = None
    suffix: str | None = None

    def command(self, caller: Principal) -> Generate:
        return Complete(**self.command_fields(caller), logprobs=self.logprobs, suffix=self.suffix)


class _DeployedConfig(GenerateRequest):
    environment: str | None = Field(None, description="Name of the environment; the default one if absent.")

    def config_fields(self) -> dict[str, Any]:
        return {"deployed": True, "environment": self.environment}


class _ConfigById(GenerateRequest):
    model_config_id: str

    def config_fields(self) -> dict[str, Any]:
        return {"config_id": self.model_config_id}


class _InlineChatConfig(GenerateRequest):
    inline_config: ModelConfigChatRequest = Field(alias="model_config")

    def config_fields(self) -> dict[str, Any]:
        return {"config": self.inline_config.to_config()}


class _InlineCompletionConfig(GenerateRequest):
    inline_config: ModelConfigCompletionRequest = Field(alias="model_config")

    def config_fields(self) -> dict[str, Any]:
        return {"config": self.inline_config.to_config()}


class ChatRequest(_InlineChatConfig, AnyChat):
    """A chat with the config in the request."""


class ChatModelConfigRequest(_ConfigById, AnyChat):
    """A chat with a registered config."""


class ChatDeployedRequest(_DeployedConfig, AnyChat):
    """A chat with the config deployed in an environment."""


class CompletionRequest(_InlineCompletionConfig, AnyCompletion):
    """A completion with the config in the request."""


class CompletionModelConfigRequest(_ConfigById, AnyCompletion):
    """A completion with a registered config."""


class CompletionDeployedRequest(_DeployedConfig, AnyCompletion):
    """A completion with the config deployed in an environment."""
