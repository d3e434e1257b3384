"""Chat and completion: six requests (behaviour.md §4.1, §4.2)."""

from abc import ABC, abstractmethod
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from services.gateway.schemas.bodies import Placed, StrictBody
from services.gateway.schemas.configs import ModelConfigChatRequest, ModelConfigCompletionRequest
from shared import ids
from shared.contracts.chat import (
    ChatMessage,
    FunctionChoice,
    FunctionName,
    ResponseFormat,
    ToolChoice,
)
from shared.contracts.generations import Chat, Complete, Generate
from shared.contracts.principal import Principal
from shared.contracts.projects import Provider
from shared.errors import Invalid

DEPRECATED: JsonDict = {"deprecated": True}
"""In the schema only: pydantic's own flag warns whenever the server itself reads the field."""
LARGEST_NUM_SAMPLES = 128
"""OpenAI's own limit of `n`."""


ProviderKey = Annotated[str, Field(pattern=r"^[\x21-\x7e]*$")]
"""Goes into an HTTP header: visible ASCII."""


class ProviderApiKeys(StrictBody):
    """Keys for this request alone; they are never stored. Providers younger than the contract have theirs by name."""

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


class GenerateRequest(Placed, StrictBody, ABC):
    """What every generation request has."""

    inputs: dict[str, Any] = {}
    source: str | None = None
    metadata: dict[str, Any] | None = None
    save: bool = Field(True, description="False: no inputs, messages, outputs or provider bodies are stored.")
    source_datapoint_id: str | None = None
    provider_api_keys: ProviderApiKeys | None = None
    num_samples: int = Field(1, ge=1, le=LARGEST_NUM_SAMPLES)
    stream: bool = False
    user: str | None = None
    seed: int | None = Field(None, json_schema_extra=DEPRECATED)
    return_inputs: bool = True

    def common(self, caller: Principal) -> dict[str, Any]:
        """The fields every command has; `provider_api_keys` never are among them."""
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
            "session_id": self.session(caller),
            "parent_id": self.parent(caller),
            "reference_ids": {name: value for name, value in references.items() if value is not None},
            "log_ids": [ids.mint("data") for _ in range(self.num_samples)],
        } | self.version()

    @abstractmethod
    def version(self) -> dict[str, Any]:
        """Which config to use, as the command's fields."""

    @abstractmethod
    def command(self, caller: Principal) -> Generate:
        """What generation is asked to do."""


class AnyChat(GenerateRequest):
    messages: list[ChatMessage]
    tool_choice: ToolChoice | None = None
    tool_call: str | FunctionName | None = Field(None, json_schema_extra=DEPRECATED)
    response_format: ResponseFormat | None = None

    def choice(self) -> ToolChoice | None:
        """`tool_choice`, or what the deprecated `tool_call` says."""
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
            **self.common(caller),
            messages=self.messages,
            tool_choice=self.choice(),
            response_format=self.response_format,
        )


class AnyCompletion(GenerateRequest):
    logprobs: int | None = None
    suffix: str | None = None

    def command(self, caller: Principal) -> Generate:
        return Complete(**self.common(caller), logprobs=self.logprobs, suffix=self.suffix)


class _Deployed(GenerateRequest):
    environment: str | None = Field(None, description="Name of the environment; the default one if absent.")

    def version(self) -> dict[str, Any]:
        return {"deployed": True, "environment": self.environment}


class _ById(GenerateRequest):
    model_config_id: str

    def version(self) -> dict[str, Any]:
        return {"config_id": self.model_config_id}


class _InlineChat(GenerateRequest):
    inline: ModelConfigChatRequest = Field(alias="model_config")

    def version(self) -> dict[str, Any]:
        return {"config": self.inline.config()}


class _InlineCompletion(GenerateRequest):
    inline: ModelConfigCompletionRequest = Field(alias="model_config")

    def version(self) -> dict[str, Any]:
        return {"config": self.inline.config()}


class ChatRequest(_InlineChat, AnyChat):
    """Chat with the config in the call."""


class ChatModelConfigRequest(_ById, AnyChat):
    """Chat with a registered config."""


class ChatDeployedRequest(_Deployed, AnyChat):
    """Chat with what is deployed."""


class CompletionRequest(_InlineCompletion, AnyCompletion):
    """Completion with the config in the call."""


class CompletionModelConfigRequest(_ById, AnyCompletion):
    """Completion with a registered config."""


class CompletionDeployedRequest(_Deployed, AnyCompletion):
    """Completion with what is deployed."""
