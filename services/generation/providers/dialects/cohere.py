"""The wire language of Cohere's chat API, version 2.

https://docs.cohere.com/reference/chat · streams: …/chat-stream · tools: https://docs.cohere.com/docs/tool-use, 2026-11
"""

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
    usage_from_counts,
)
from services.generation.providers import errors
from services.generation.providers.dialects.alternating_messages import response_schema
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

_TITLE = "Cohere"
_FINISH_REASONS: dict[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_call",
}
_FAILURES = {"ERROR": "failed in the middle of its answer.", "TIMEOUT": "did not finish its answer in time."}
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
    sent |= _without_none(
        tools=[_tool(tool) for tool in tools] or None,
        tool_choice=_tool_choice(request, tools) if config.tools else None,
        strict_tools=True if any(tool.strict for tool in tools) else None,
        response_format=response_format
        and _without_none(type="json_object", json_schema=_schema(response_format.json_schema)),
        max_tokens=None if config.max_tokens == -1 else config.max_tokens,
        stop_sequences=[config.stop] if isinstance(config.stop, str) else config.stop,
        seed=request.seed,
        presence_penalty=_penalty("presence_penalty", config.presence_penalty),
        frequency_penalty=_penalty("frequency_penalty", config.frequency_penalty),
    )
    return sent | {key: value for key, value in config.other.items() if key not in _RESERVED_FIELDS}


def _schema(json_schema: Json | None) -> Any:  # noqa: ANN401 - JSON schema
    return response_schema(json_schema)["schema"] if json_schema else None


def _without_none(**fields: Any) -> Json:  # noqa: ANN401
    return {key: value for key, value in fields.items() if value is not None}


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
    function = _without_none(name=tool.name, description=tool.description, parameters=parameters)
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
    return _without_none(
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
    message = reply["message"]
    text = "".join(part.get("text") or "" for part in message.get("content") or () if part.get("type") == "text")
    calls = [
        ToolCall(
            id=call.get("id") or f"call_{index}",
            function=FunctionCall(name=call["function"]["name"], arguments=call["function"].get("arguments") or ""),
        )
        for index, call in enumerate(message.get("tool_calls") or ())
    ]
    usage = _usage(reply)
    with errors.attach_usage(reply, usage):
        reason = _finish_reason(reply["finish_reason"])
    return ModelResponse([Choice((message.get("tool_plan") or "") + text, calls or None, reason)], reply, usage)


def _finish_reason(reason: str | None) -> FinishReason | None:
    """Raises UpstreamFailed if the reason is a failure."""
    if reason in _FAILURES:
        raise errors.invalid_response(_TITLE, _FAILURES[reason])
    return None if reason is None else _FINISH_REASONS.get(reason, "stop")


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
    if (usage := accumulator.usage) is not None:
        reply["usage"] = {"tokens": {"input_tokens": usage.prompt_tokens, "output_tokens": usage.generation_tokens}}
    return reply


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event; those without text or tool calls (citations, ends of parts) give an empty delta."""
    kind = event["type"]
    delta = event.get("delta") or {}
    if kind == "message-start":
        return ResponseDelta(response_fields=_without_none(id=event.get("id")))
    if kind == "message-end":
        usage = _usage(delta)
        with errors.attach_usage(event, usage):
            return ResponseDelta(finish_reason=_finish_reason(delta["finish_reason"]), usage=usage)
    message = delta.get("message") or {}
    if kind in {"content-start", "content-delta"}:
        return ResponseDelta(text=message["content"].get("text") or "")
    if kind == "tool-plan-delta":
        return ResponseDelta(text=message["tool_plan"] or "")
    if kind in {"tool-call-start", "tool-call-delta"}:
        return ResponseDelta(tool_calls=(_tool_call_part(event["index"], message["tool_calls"]),))
    return ResponseDelta()


def _tool_call_part(index: int, part: Json) -> ToolCallPart:
    function = part.get("function") or {}
    return ToolCallPart(index, part.get("id"), function.get("name"), function.get("arguments") or "")


# Usage and errors


def _usage(reply: Json) -> Usage | None:
    """Return `usage.tokens`, all tokens as other providers count; `billed_units` leave out Cohere's own preamble."""
    usage = reply.get("usage")
    counts = (usage.get("tokens") or usage.get("billed_units")) if isinstance(usage, dict) else None
    if not isinstance(counts, dict) or not counts:
        return None
    return usage_from_counts([counts.get("input_tokens")], [counts.get("output_tokens")])


def error_detail(payload: Any) -> str | None:  # noqa: ANN401
    """Read `{"message": "…"}`, or the error in the last event of a stream that failed."""
    if not isinstance(payload, dict):
        return None
    delta = payload.get("delta")
    error = delta.get("error") if payload.get("type") == "message-end" and isinstance(delta, dict) else None
    message = error or payload.get("message")
    return message if isinstance(message, str) and message else None
