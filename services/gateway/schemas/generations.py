"""Chat and completion: six requests, two answers, two stream events (behaviour.md §4)."""

from abc import ABC, abstractmethod
from typing import Any

from pydantic import BaseModel, Field
from pydantic.config import JsonDict

from services.gateway.schemas.common import Placed, StrictBody
from services.gateway.schemas.configs import ModelConfigChatRequest, ModelConfigCompletionRequest
from shared import ids
from shared.contracts.access import Caller
from shared.contracts.chat import (
    ChatMessage,
    FinishReason,
    FunctionCall,
    FunctionChoice,
    FunctionName,
    ResponseFormat,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from shared.contracts.generations import Chat, Chunk, Complete, Generate, Generation, Sample
from shared.errors import Invalid

DEPRECATED: JsonDict = {"deprecated": True}
"""In the schema only: pydantic's own flag warns whenever the server itself reads the field."""
LARGEST_NUM_SAMPLES = 128
"""OpenAI's own limit of `n`."""


class ProviderApiKeys(StrictBody):
    """Keys for this request alone; they are never stored."""

    openai: str | None = None
    ai21: str | None = None
    mock: str | None = None
    anthropic: str | None = None
    bedrock: str | None = None
    cohere: str | None = None
    openai_azure: str | None = None
    openai_azure_endpoint: str | None = None


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

    def common(self, caller: Caller) -> dict[str, Any]:
        """The fields every command has; `provider_api_keys` never are among them."""
        references = {"session": self.session_reference_id, "parent": self.parent_reference_id}
        return {
            "organisation": caller.organisation,
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
    def command(self, caller: Caller) -> Generate:
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

    def command(self, caller: Caller) -> Generate:
        return Chat(
            **self.common(caller),
            messages=self.messages,
            tool_choice=self.choice(),
            response_format=self.response_format,
        )


class AnyCompletion(GenerateRequest):
    logprobs: int | None = None
    suffix: str | None = None

    def command(self, caller: Caller) -> Generate:
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


class DataResponse(BaseModel):
    """One sample of a completion."""

    id: str
    index: int
    output: str
    raw_output: str
    inputs: dict[str, Any]
    finish_reason: FinishReason | None
    model_config_id: str
    tool_results: list[ToolResult]


class ChatDataResponse(DataResponse):
    """One sample of a chat."""

    messages: list[ChatMessage]
    tool_call: FunctionCall | None = Field(json_schema_extra=DEPRECATED)
    tool_calls: list[ToolCall] | None = Field(json_schema_extra=DEPRECATED)
    output_message: ChatMessage


class CompletionResponse(BaseModel):
    """The answer to a completion."""

    project_id: str | None
    num_samples: int
    logprobs: int | None
    suffix: str | None
    user: str | None
    data: list[DataResponse]
    usage: Usage
    metadata: dict[str, Any] | None
    provider_responses: list[Any]
    provider_request: dict[str, Any]
    session_id: str | None


class ChatResponse(BaseModel):
    """The answer to a chat."""

    project_id: str | None
    num_samples: int
    logprobs: int | None
    suffix: str | None
    user: str | None
    data: list[ChatDataResponse]
    usage: Usage
    metadata: dict[str, Any] | None
    provider_responses: list[Any]
    provider_request: dict[str, Any]
    session_id: str | None
    tool_choice: ToolChoice | None


class StreamMessage(BaseModel):
    """The assistant message of a stream event: `content` is the increment."""

    role: str = "assistant"
    content: str
    tool_calls: list[ToolCall] | None = None


class StreamData(BaseModel):
    """One sample's increment."""

    id: str
    index: int
    output: str
    raw_output: str
    finish_reason: FinishReason | None
    model_config_id: str
    tool_results: list[ToolResult]
    tool_calls: list[ToolCall] | None = None
    output_message: StreamMessage | None = None


class StreamEvent(BaseModel):
    """One event of a streamed answer."""

    project_id: str | None
    session_id: str | None
    data: list[StreamData]


def output_message(sample: Sample) -> ChatMessage:
    """The message to append to the history. `content` is never null: old clients refuse to send that back."""
    return ChatMessage(role="assistant", content=sample.output, tool_calls=sample.tool_calls)


def _sample(sample: Sample, generation: Generation, request: GenerateRequest) -> dict[str, Any]:
    return {
        "id": sample.id,
        "index": sample.index,
        "output": sample.output,
        "raw_output": sample.raw_output,
        "inputs": request.inputs if request.return_inputs else {},
        "finish_reason": sample.finish_reason,
        "model_config_id": generation.config_id,
        "tool_results": generation.tool_results,
    }


def _answer(generation: Generation, request: GenerateRequest) -> dict[str, Any]:
    return {
        "project_id": generation.project_id,
        "num_samples": request.num_samples,
        "user": request.user,
        "usage": generation.usage,
        "metadata": request.metadata,
        "provider_responses": generation.provider_responses,
        "provider_request": generation.provider_request,
        "session_id": generation.session_id,
    }


def chat_response(generation: Generation, request: AnyChat) -> ChatResponse:
    """What a chat client reads."""
    data = [
        ChatDataResponse(
            **_sample(sample, generation, request),
            messages=generation.messages or [],
            tool_call=sample.tool_calls[0].function if sample.tool_calls else None,
            tool_calls=sample.tool_calls,
            output_message=output_message(sample),
        )
        for sample in generation.samples
    ]
    return ChatResponse(
        **_answer(generation, request), data=data, logprobs=None, suffix=None, tool_choice=request.tool_choice
    )


def completion_response(generation: Generation, request: AnyCompletion) -> CompletionResponse:
    """What a completion client reads."""
    data = [DataResponse(**_sample(sample, generation, request)) for sample in generation.samples]
    return CompletionResponse(
        **_answer(generation, request), data=data, logprobs=request.logprobs, suffix=request.suffix
    )


def stream_event(chunk: Chunk, *, chat: bool) -> StreamEvent:
    """One event: small, whatever the request was, because clients limit the length of a line."""
    sample = chunk.sample
    message = StreamMessage(content=sample.raw_output, tool_calls=sample.tool_calls) if chat else None
    data = StreamData(
        id=sample.id,
        index=sample.index,
        output=sample.raw_output,
        raw_output=sample.raw_output,
        finish_reason=sample.finish_reason,
        model_config_id=chunk.config_id,
        tool_results=chunk.tool_results,
        tool_calls=sample.tool_calls,
        output_message=message,
    )
    return StreamEvent(project_id=chunk.project_id, session_id=chunk.session_id, data=[data])
