"""Reads responses, events, usage and errors in the wire language of Converse, and writes responses from streams."""

import json
from typing import Any

from services.generation.models.request import (
    Choice,
    Json,
    ModelRequest,
    ModelResponse,
    ResponseDelta,
    StreamAccumulator,
    ToolCallPart,
)
from services.generation.models.usage import usage_from_counts
from services.generation.providers.base import ReportedError
from services.generation.providers.dialects.alternating_messages import (
    FINISH_REASONS,
    PROVIDER_FINISH_REASONS,
    tool_input,
)
from services.generation.providers.dialects.reply_fields import (
    as_block_text,
    as_error,
    as_finish_reason,
    as_index,
    as_json_text,
    as_name,
    as_object,
    as_objects,
    as_status,
    as_told_error,
)
from shared.contracts.chat import FunctionCall, ToolCall, Usage

_REFUSALS = frozenset({"content_filtered", "guardrail_intervened"})
"""Stop reasons of an answer that a filter cut off or replaced."""
_ERROR_STATUSES = {
    "validationexception": 400,
    "servicequotaexceededexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "modelerrorexception": 424,
    "modelstreamerrorexception": 424,
    "modelnotreadyexception": 429,
    "throttlingexception": 429,
    "internalserverexception": 500,
    "serviceunavailableexception": 503,
}
"""By the exception's name in lower case: the statuses of the service model of botocore 1.44."""


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401, ARG001
    """Parse a response that is not streamed; reasoning is in `raw` alone."""
    fields = as_object(reply)
    message = as_object(fields.get("output")).get("message")
    content = message.get("content") if isinstance(message, dict) else message
    if content is None:
        raise ValueError("no content")
    uses = [block["toolUse"] for block in as_objects(content) if block.get("toolUse") is not None]
    reason = as_finish_reason(fields.get("stopReason"), FINISH_REASONS) or "stop"
    calls = [_tool_call(as_object(use)) for use in uses]
    choice = Choice(as_block_text(content), calls or None, reason, _refusal(fields.get("stopReason")))
    return ModelResponse([choice], reply, read_usage(reply))


def _tool_call(use: Json) -> ToolCall:
    function = FunctionCall(name=as_name(use.get("name")) or "", arguments=as_json_text(use.get("input")))
    return ToolCall(id=as_name(use.get("toolUseId")) or "", function=function)


def _refusal(stop_reason: Any) -> str | None:  # noqa: ANN401
    """Return the word for `Choice.refusal`."""
    return stop_reason if isinstance(stop_reason, str) and stop_reason in _REFUSALS else None


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    content: list[Json] = [{"text": choice.text}] if choice.text else []
    for call in choice.tool_calls or ():
        name, value = call.function.name, tool_input(call.function.arguments)
        content.append({"toolUse": {"toolUseId": call.id, "name": name, "input": value}})
    reply: Json = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": choice.refusal or (choice.finish_reason and PROVIDER_FINISH_REASONS[choice.finish_reason]),
    }
    return reply | ({"usage": accumulator.raw_usage} if accumulator.raw_usage else {})


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event, `{type: payload}`; other types give an empty delta."""
    kind, payload = next(iter(as_object(event).items()), ("", None))
    fields = as_object(payload)
    match kind:
        case "contentBlockStart":
            return _block_start(as_index(fields.get("contentBlockIndex"), 0), as_object(fields.get("start")))
        case "contentBlockDelta":
            return _block_delta(as_index(fields.get("contentBlockIndex"), 0), fields.get("delta"))
        case "messageStop":
            stop_reason = fields.get("stopReason")
            return ResponseDelta(
                finish_reason=as_finish_reason(stop_reason, FINISH_REASONS),
                is_last=True,
                refusal=_refusal(stop_reason),
            )
        case "metadata":
            return ResponseDelta(usage=read_usage(event), raw_usage=as_object(fields.get("usage")) or None)
        case _:
            return ResponseDelta()


def _block_start(index: int, start: Json) -> ResponseDelta:
    if start.get("toolUse") is None:
        return ResponseDelta()
    use = as_object(start["toolUse"])
    return ResponseDelta(
        tool_calls=(ToolCallPart(index, id=as_name(use.get("toolUseId")), name=as_name(use.get("name"))),)
    )


def _block_delta(index: int, delta: Any) -> ResponseDelta:  # noqa: ANN401
    use = as_object(delta).get("toolUse")
    if use is not None:
        value = use.get("input") if isinstance(use, dict) else use
        return ResponseDelta(tool_calls=(ToolCallPart(index, arguments=as_json_text(value) or ""),))
    return ResponseDelta(text=as_block_text(delta))


# Usage and errors


def read_usage(reply: Any) -> Usage | None:  # noqa: ANN401
    """Return the usage; prompt tokens are the sum of uncached ones, those read from the cache and those written to it.

    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html, 2026-11
    """
    fields = as_object(reply)
    usage = as_object(as_object(fields.get("metadata")).get("usage", fields.get("usage")))
    read, written = usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")
    prompt = [usage.get("inputTokens"), read, written]
    return usage_from_counts(
        prompt, [usage.get("outputTokens")], total=usage.get("totalTokens"), cached=read, cache_writes=written
    )


def read_error(payload: Any) -> ReportedError | None:  # noqa: ANN401
    """Read `{"message": …}` (`Message` from AWS's front ends), and exceptions of a stream in the form of
    `aws.event_stream`."""
    if not isinstance(payload, dict):
        return None
    exception = payload.get("exception")
    if isinstance(exception, dict):
        return _exception(exception)
    kind = str(payload.get("__type") or "").rpartition("#")[2]
    if kind and "output" not in payload:
        return as_error({"type": kind} | payload, _ERROR_STATUSES)
    return as_told_error(payload, _ERROR_STATUSES, is_answer="output" in payload)


def _exception(exception: Json) -> ReportedError:
    kind, payload = str(exception.get("type")), str(exception.get("payload"))
    status = as_status([kind], _ERROR_STATUSES)
    try:
        inner = read_error(json.loads(payload))
    except ValueError:
        return ReportedError(payload or kind, status)
    return ReportedError(inner.detail if inner else kind, status)
