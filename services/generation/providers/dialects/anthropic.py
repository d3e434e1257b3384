"""The wire language of Anthropic's Messages API.

Messages: https://platform.claude.com/docs/en/api/messages · streams: …/build-with-claude/streaming · errors:
…/api/errors (2026-11, with the types of their client library 2.12).
"""

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
    usage_from_counts,
)
from services.generation.providers.dialects.alternating_messages import (
    alternate,
    content_parts,
    parameters_schema,
    parse_data_url,
    require_inline,
    response_schema,
    tool_arguments,
    tool_calls,
    tool_input,
)
from shared.contracts.chat import (
    ChatMessage,
    FinishReason,
    FunctionCall,
    FunctionChoice,
    Image,
    Part,
    ToolCall,
    ToolChoice,
    Usage,
)
from shared.errors import Invalid

_VERSION = "2023-06-01"
"""The newer 2026-10-21 refuses `temperature` and `top_p` for every model, and has nothing else that we need.

https://platform.claude.com/docs/en/api/versioning, 2026-11
"""
_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_call",
    "pause_turn": "stop",
    "refusal": "stop",
}
_PROVIDER_FINISH_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_call": "tool_use",
}
_RESERVED_FIELDS = frozenset({"model", "messages", "system", "stream"})
"""Fields that `other` cannot override: the response could not be read any more."""
_DEFAULT_MAX_TOKENS = 4096
"""`max_tokens` is mandatory; every model since Claude 2 may write so much."""


def _finish_reason(reason: str | None) -> FinishReason | None:
    return None if reason is None else _FINISH_REASONS.get(reason, "stop")


# Request


def url(base_url: str, request: ModelRequest) -> str:  # noqa: ARG001
    """Return the URL; `base_url` may lack `/v1`, as ANTHROPIC_BASE_URL does for Anthropic's own programs."""
    return f"{base_url.removesuffix('/v1')}/v1/messages"


def headers(key: str | None) -> dict[str, str]:
    """Return the API version, and the key in Anthropic's own header."""
    return {"anthropic-version": _VERSION} | ({"x-api-key": key} if key else {})


def body(request: ModelRequest) -> Json:
    """Return the body; defaults are left out, as newer models refuse `temperature` together with `top_p`, even at 1."""
    config = request.config
    system, merged = alternate(request.messages or [], _blocks)
    sent: Json = {
        "model": config.model,
        "max_tokens": _DEFAULT_MAX_TOKENS if request.max_output_tokens is None else request.max_output_tokens,
        "messages": [{"role": message.role, "content": message.blocks} for message in merged],
    }
    optional: Json = {
        "system": system or None,
        "stop_sequences": [config.stop] if isinstance(config.stop, str) else config.stop,
        "temperature": None if config.temperature == 1 else config.temperature,
        "top_p": None if config.top_p == 1 else config.top_p,
        "metadata": request.user and {"user_id": request.user},
        "output_config": _output(request),
        "stream": request.stream or None,
        **_tools(request),
    }
    sent |= {key: value for key, value in optional.items() if value is not None}
    return sent | {key: value for key, value in config.other.items() if key not in _RESERVED_FIELDS}


def _output(request: ModelRequest) -> Json | None:
    response_format = request.response_format
    if response_format is None:
        return None
    return {"format": {"type": "json_schema", "schema": response_schema(response_format.json_schema)["schema"]}}


def _tools(request: ModelRequest) -> Json:
    tools = [require_inline(tool) for tool in request.config.tools or ()]
    if not tools:
        return {}
    written = [
        {"name": tool.name, "input_schema": parameters_schema(tool)}
        | ({"description": tool.description} if tool.description else {})
        | ({"strict": tool.strict} if tool.strict is not None else {})
        for tool in tools
    ]
    return {"tools": written, "tool_choice": _tool_choice(request.tool_choice)}


def _tool_choice(choice: ToolChoice | None) -> Json | None:
    if choice is None:
        return None
    if isinstance(choice, FunctionChoice):
        return {"type": "tool", "name": choice.function.name}
    return {"type": "any" if choice == "required" else choice}


def _blocks(message: ChatMessage) -> list[Json]:
    blocks = [_block(message, part) for part in content_parts(message)]
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id}
        return [result | ({"content": blocks} if blocks else {})]
    if message.role != "assistant":
        return blocks
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.function.name, "input": tool_arguments(call)}
        for call in tool_calls(message)
    ]
    return blocks + calls


def _block(message: ChatMessage, part: Part) -> Json:
    if not isinstance(part, Image):
        return {"type": "text", "text": part.text}
    if message.role == "assistant":
        raise Invalid("messages: Anthropic takes images from the user only; put the image into a user message.")
    if (inline := parse_data_url(part)) is None:
        return {"type": "image", "source": {"type": "url", "url": part.image_url.url}}
    media, data = inline
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}


# Reply


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401, ARG001
    """Parse a response that is not streamed; thinking and blocks of tools that run at Anthropic are in `raw` alone."""
    blocks = reply["content"]
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    reason = _finish_reason(reply["stop_reason"]) or "stop"
    return ModelResponse([Choice(text, calls or None, reason)], reply, _usage(reply.get("usage")))


def _tool_call(block: Json) -> ToolCall:
    value = block["input"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return ToolCall(id=block["id"], function=FunctionCall(name=block["name"], arguments=text))


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    content: list[Json] = [{"type": "text", "text": choice.text}] if choice.text else []
    for call in choice.tool_calls or ():
        name, value = call.function.name, tool_input(call.function.arguments)
        content.append({"type": "tool_use", "id": call.id, "name": name, "input": value})
    stop_reason = _PROVIDER_FINISH_REASONS[choice.finish_reason] if choice.finish_reason else None
    reply: Json = accumulator.response_fields | {"content": content, "stop_reason": stop_reason}
    if accumulator.usage:
        prompt, generated = accumulator.usage.prompt_tokens, accumulator.usage.generation_tokens
        reply["usage"] = {"input_tokens": prompt, "output_tokens": generated}
    return reply


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event; other types give an empty delta, as Anthropic may add new ones at any time."""
    match event["type"]:
        case "message_start":
            message = event["message"]
            about = {key: message[key] for key in ("id", "type", "role", "model") if key in message}
            return ResponseDelta(usage=_usage(message.get("usage")), response_fields=about)
        case "content_block_start":
            return _block_start(event["index"], event["content_block"])
        case "content_block_delta":
            return _block_delta(event["index"], event["delta"])
        case "message_delta":
            return ResponseDelta(
                finish_reason=_finish_reason(event["delta"].get("stop_reason")), usage=_usage(event.get("usage"))
            )
        case _:
            return ResponseDelta()


def _block_start(index: int, block: Json) -> ResponseDelta:
    """Parse the start of a block; a tool call's input is empty there and comes in deltas."""
    if block["type"] == "tool_use":
        return ResponseDelta(tool_calls=(ToolCallPart(index, id=block["id"], name=block["name"]),))
    return ResponseDelta(text=block["text"] if block["type"] == "text" else "")


def _block_delta(index: int, delta: Json) -> ResponseDelta:
    if delta["type"] == "input_json_delta":
        return ResponseDelta(tool_calls=(ToolCallPart(index, arguments=delta["partial_json"]),))
    return ResponseDelta(text=delta["text"] if delta["type"] == "text_delta" else "")


# Usage and errors


def _usage(usage: Json | None) -> Usage | None:
    """Return the usage; prompt tokens are the sum of uncached ones, those written to the cache and those read from it.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching, 2026-11. Events may have the output alone.
    """
    if not isinstance(usage, dict) or not usage:
        return None
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    prompt = [] if usage.get("input_tokens") is None else [usage.get(name) for name in names]
    return usage_from_counts(prompt, [usage.get("output_tokens")])


def error_detail(payload: Any) -> str | None:  # noqa: ANN401
    """Read `{"type": "error", "error": {"type": …, "message": …}}`, as a response and as an event."""
    if not isinstance(payload, dict) or not payload.get("error"):
        return None
    error = payload["error"]
    message = (error.get("message") or error.get("type")) if isinstance(error, dict) else error
    return str(message) if message else None
