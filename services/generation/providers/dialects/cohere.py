"""The wire language of Cohere's chat API, version 2.

https://docs.cohere.com/reference/chat · streams: …/chat-stream · tools: https://docs.cohere.com/docs/tool-use, 2026-11
"""

from dataclasses import replace
from typing import Any

from services.generation.models.request import (
    Choice,
    Json,
    ModelRequest,
    ModelResponse,
    ResponseDelta,
    StreamAccumulator,
    ToolCallPart,
    get_inline_tools,
    get_tool_calls,
)
from services.generation.models.usage import merge_usage, usage_from_counts
from services.generation.providers.base import ReportedError
from services.generation.providers.dialects.alternating_messages import response_schema
from services.generation.providers.dialects.reply_fields import (
    as_block_text,
    as_error,
    as_finish_reason,
    as_index,
    as_json_text,
    as_name,
    as_object,
    as_objects,
    as_text,
    as_told_error,
    without_none,
)
from shared.contracts.chat import (
    ChatMessage,
    FinishReason,
    FunctionCall,
    FunctionChoice,
    InlineTool,
    Text,
    ToolCall,
    Usage,
)
from shared.errors import Invalid

_FINISH_REASONS: dict[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_call",
}
_FAILURES = {
    "ERROR": ReportedError("it failed in the middle of its answer.", 500),
    "TIMEOUT": ReportedError("it did not finish its answer in time.", 504),
}
"""By finish reason: https://docs.cohere.com/reference/chat#response.body.finish_reason, 2026-11"""
_PROVIDER_FINISH_REASONS: dict[FinishReason, str] = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "tool_call": "TOOL_CALL",
}
_RESERVED_FIELDS = frozenset({"model", "messages", "stream"})
"""Fields that `other` cannot override: the response could not be read any more."""
_MIN_P, _MAX_P = 0.01, 0.99
"""https://docs.cohere.com/reference/chat#request.body.p, 2026-11"""


# Request


def url(base_url: str, request: ModelRequest) -> str:  # noqa: ARG001
    """Return the URL, the same for all models."""
    return f"{base_url}/chat"


def headers(key: str | None) -> dict[str, str]:
    """Return the bearer token, if there is a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def body(request: ModelRequest) -> Json:
    """Return the body; temperature and `p` always: their defaults are 0.3 and 0.75. No `max_tokens` means no limit."""
    config = request.config
    tools = [tool for tool in get_inline_tools(config) if _is_offered(tool, request)]
    response_format = request.response_format
    sent: Json = {
        "model": config.model,
        "messages": [_message(message) for message in request.messages or ()],
        "stream": request.stream,
        "temperature": config.temperature,
        "p": min(max(config.top_p, _MIN_P), _MAX_P),
    }
    sent |= without_none(
        tools=[_tool(tool) for tool in tools] or None,
        tool_choice=_tool_choice(request, tools) if config.tools else None,
        strict_tools=True if any(tool.strict for tool in tools) else None,
        response_format=response_format
        and without_none(type="json_object", json_schema=_schema(response_format.json_schema)),
        max_tokens=None if config.max_tokens == -1 else config.max_tokens,
        stop_sequences=[config.stop] if isinstance(config.stop, str) else config.stop,
        seed=request.seed,
        presence_penalty=_penalty("presence_penalty", config.presence_penalty),
        frequency_penalty=_penalty("frequency_penalty", config.frequency_penalty),
    )
    return sent | {key: value for key, value in config.other.items() if key not in _RESERVED_FIELDS}


def _schema(json_schema: Json | None) -> Any:  # noqa: ANN401 - JSON schema
    return response_schema(json_schema)["schema"] if json_schema else None


def _penalty(name: str, value: float) -> float | None:
    if not 0 <= value <= 1:
        raise Invalid(f"Cohere takes a {name} from 0 to 1; this is {value:g}.")
    return value or None


def _is_offered(tool: InlineTool, request: ModelRequest) -> bool:
    """Whether the tool is sent: if `tool_choice` names one, only that one, as Cohere's REQUIRED cannot name it."""
    choice = request.tool_choice
    return not isinstance(choice, FunctionChoice) or tool.name == choice.function.name


def _tool_choice(request: ModelRequest, tools: list[InlineTool]) -> str | None:
    choice = request.tool_choice
    if isinstance(choice, FunctionChoice):
        if not tools:
            raise Invalid(f"tool_choice names the function {choice.function.name!r}, which is not one of the tools.")
        return "REQUIRED"
    return {"required": "REQUIRED", "none": "NONE"}.get(choice or "auto")


def _tool(tool: InlineTool) -> Json:
    """Return the tool; Cohere requires `parameters`."""
    parameters = {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
    function = without_none(name=tool.name, description=tool.description, parameters=parameters)
    return {"type": "function", "function": function}


def _message(message: ChatMessage) -> Json:
    content = message.content or ""
    if isinstance(content, list):
        sent_content: Any = [part.model_dump(exclude_none=True) for part in content]
    else:
        sent_content = content
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": sent_content}
    calls = get_tool_calls(message)
    if not calls:
        return {"role": message.role, "content": sent_content}
    return without_none(
        role=message.role, tool_plan=_plan_text(message) or None, tool_calls=[_tool_call(call) for call in calls]
    )


def _plan_text(message: ChatMessage) -> str:
    """Return the text beside tool calls, sent as `tool_plan`: `content` is refused there (https://github.com/vercel/ai/issues/5794)."""
    content = message.content or ""
    return content if isinstance(content, str) else "".join(part.text for part in content if isinstance(part, Text))


def _tool_call(call: ToolCall) -> Json:
    function = {"name": call.function.name, "arguments": call.function.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


# Reply


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401, ARG001
    """Parse a response that is not streamed; `tool_plan` is part of the text, as it is with other providers."""
    fields = as_object(reply)
    said = fields.get("message")
    if said is None or (isinstance(said, str) and read_error(reply)):
        raise ValueError("no message")
    message = as_object(said)
    calls = []
    for call in as_objects(message.get("tool_calls")):
        function = as_object(call.get("function"))
        name, arguments = as_name(function.get("name")) or "", as_json_text(function.get("arguments")) or ""
        calls.append(ToolCall(id=as_name(call.get("id")) or "", function=FunctionCall(name=name, arguments=arguments)))
    reason = as_finish_reason(fields.get("finish_reason"), _FINISH_REASONS) or "stop"
    return ModelResponse([Choice(_text(said), calls or None, reason)], reply, read_usage(reply))


def _text(message: Any) -> str:  # noqa: ANN401
    """Return the text of a message, or of its next piece; some gateways give text in its place."""
    if not isinstance(message, dict):
        return as_text(message)
    return as_text(message.get("tool_plan")) + as_block_text(message.get("content", message.get("text")))


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    message: Json = {"role": "assistant"}
    if choice.tool_calls:
        message |= {"tool_plan": choice.text} if choice.text else {}
        message["tool_calls"] = [call.model_dump() for call in choice.tool_calls]
    else:
        message["content"] = [{"type": "text", "text": choice.text}]
    reason = choice.finish_reason and _PROVIDER_FINISH_REASONS[choice.finish_reason]
    reply: Json = accumulator.response_fields | {"finish_reason": reason, "message": message}
    return reply | ({"usage": accumulator.raw_usage} if accumulator.raw_usage else {})


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event by what is in it, since some proxies give its type as the stream's field `event` alone; those
    without text or tool calls (citations, ends of parts) give an empty delta."""
    fields = as_object(event)
    kind, delta = fields.get("type"), as_object(fields.get("delta"))
    said = delta.get("message", delta)
    calls = as_objects(as_object(said).get("tool_calls"))
    return ResponseDelta(
        text=_text(said),
        tool_calls=tuple(_tool_call_part(as_index(fields.get("index"), 0), call) for call in calls),
        finish_reason=as_finish_reason(delta.get("finish_reason"), _FINISH_REASONS),
        is_last=kind == "message-end",
        usage=read_usage(event),
        raw_usage=_usage_object(fields) or None,
        response_fields=without_none(id=fields.get("id")),
    )


def _tool_call_part(index: int, part: Json) -> ToolCallPart:
    function = as_object(part.get("function"))
    arguments = as_json_text(function.get("arguments")) or ""
    return ToolCallPart(index, as_name(part.get("id")), as_name(function.get("name")), arguments)


# Usage and errors


def read_usage(reply: Any) -> Usage | None:  # noqa: ANN401
    """Return `usage.tokens`, all tokens as other providers count; what is missing there is taken from `billed_units`,
    which leave out Cohere's own preamble.

    The cached tokens are among those of the prompt: https://docs.cohere.com/reference/chat#response.body.usage, 2026-11
    """
    usage = _usage_object(as_object(reply))
    tokens, billed = [
        usage_from_counts(
            [counts.get("input_tokens")], [counts.get("output_tokens")], cached=usage.get("cached_tokens")
        )
        for counts in (as_object(usage.get("tokens")), as_object(usage.get("billed_units")))
    ]
    return merge_usage(billed, tokens)


def _usage_object(reply: Json) -> Json:
    return as_object(as_object(reply.get("delta")).get("usage", reply.get("usage")))


def read_error(payload: Any) -> ReportedError | None:  # noqa: ANN401
    """Read `{"message": "…"}`, the error in the last event of a stream that failed, or a finish reason that is one."""
    fields = as_object(payload)
    delta = as_object(fields.get("delta")) if fields.get("type") == "message-end" else {}
    reason = delta.get("finish_reason", fields.get("finish_reason"))
    failure = _FAILURES.get(reason.upper()) if isinstance(reason, str) else None
    has_ended = "finish_reason" in fields and not failure  # then text as the message is the answer's
    is_answer = has_ended or "delta" in fields or isinstance(fields.get("message"), dict)
    told = as_error(delta.get("error"), {}, delta) or as_told_error(payload, {}, is_answer=is_answer)
    return replace(told, status=told.status or failure.status) if told and failure else told or failure
