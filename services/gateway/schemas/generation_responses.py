"""Response models of chat and completion, whole or as stream events (behaviour.md §4.4-4.6)."""

from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import to_json

from services.gateway.schemas.generations import DEPRECATED, AnyChat, AnyCompletion, GenerateRequest
from shared.contracts.chat import ChatMessage, FinishReason, FunctionCall, ToolCall, ToolChoice, ToolResult
from shared.contracts.generation.generations import Chunk, Generation, Sample

MAX_REPEATED_TOOL_CALLS_BYTES = 32 * 1024
"""Of JSON. Larger tool calls are on an event once instead of twice, because clients limit the length of a line."""


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


class UsageResponse(BaseModel):
    """Token counts of a call."""

    prompt_tokens: int
    generation_tokens: int
    total_tokens: int


class CompletionResponse(BaseModel):
    """The response of a completion."""

    project_id: str | None
    num_samples: int
    logprobs: int | None
    suffix: str | None
    user: str | None
    data: list[DataResponse]
    usage: UsageResponse
    metadata: dict[str, Any] | None
    provider_responses: list[Any]
    provider_request: dict[str, Any]
    session_id: str | None


class ChatResponse(BaseModel):
    """The response of a chat."""

    project_id: str | None
    num_samples: int
    logprobs: int | None
    suffix: str | None
    user: str | None
    data: list[ChatDataResponse]
    usage: UsageResponse
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
    """The increment of one sample."""

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
    """One event of a streamed response."""

    project_id: str | None
    session_id: str | None
    data: list[StreamData]


def output_message(sample: Sample) -> ChatMessage:
    """Return the message to append to the history. `content` is never null: old clients refuse to send that back."""
    return ChatMessage(role="assistant", content=sample.output, tool_calls=sample.tool_calls)


def _sample_fields(sample: Sample, generation: Generation, request: GenerateRequest) -> dict[str, Any]:
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


def _generation_fields(generation: Generation, request: GenerateRequest) -> dict[str, Any]:
    return {
        "project_id": generation.project_id,
        "num_samples": request.num_samples,
        "user": request.user,
        "usage": UsageResponse.model_validate(generation.usage, from_attributes=True),
        "metadata": request.metadata,
        "provider_responses": generation.provider_responses,
        "provider_request": generation.provider_request,
        "session_id": generation.session_id,
    }


def chat_response(generation: Generation, request: AnyChat) -> ChatResponse:
    """Return the response model of a chat."""
    data = [
        ChatDataResponse(
            **_sample_fields(sample, generation, request),
            messages=generation.messages or [],
            tool_call=sample.tool_calls[0].function if sample.tool_calls else None,
            tool_calls=sample.tool_calls,
            output_message=output_message(sample),
        )
        for sample in generation.samples
    ]
    return ChatResponse(
        **_generation_fields(generation, request),
        data=data,
        logprobs=None,
        suffix=None,
        tool_choice=request.tool_choice,
    )


def completion_response(generation: Generation, request: AnyCompletion) -> CompletionResponse:
    """Return the response model of a completion."""
    data = [DataResponse(**_sample_fields(sample, generation, request)) for sample in generation.samples]
    return CompletionResponse(
        **_generation_fields(generation, request), data=data, logprobs=request.logprobs, suffix=request.suffix
    )


def stream_event(chunk: Chunk, *, chat: bool) -> StreamEvent:
    """Return one event, small whatever the request was, because clients limit the length of a line.

    The tool calls of the last event are complete. If they are large, only `output_message` has them: the contract
    deprecates the other field (behaviour.md §4.5). `chat` is false for completions, which have no `output_message`.
    """
    sample = chunk.sample
    calls = sample.tool_calls
    message = StreamMessage(content=sample.raw_output, tool_calls=calls) if chat else None
    data = StreamData(
        id=sample.id,
        index=sample.index,
        output=sample.raw_output,
        raw_output=sample.raw_output,
        finish_reason=sample.finish_reason,
        model_config_id=chunk.config_id,
        tool_results=chunk.tool_results,
        tool_calls=None if chat and calls and len(to_json(calls)) > MAX_REPEATED_TOOL_CALLS_BYTES else calls,
        output_message=message,
    )
    return StreamEvent(project_id=chunk.project_id, session_id=chunk.session_id, data=[data])
