"""The wire language of Anthropic's Messages API.

Messages: https://platform.claude.com/docs/en/api/messages · streams: …/build-with-claude/streaming · errors:
…/api/errors (2026-11, with the types of their client library 2.12).
"""

from collections.abc import Iterator
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
    alternate,
    content_parts,
    parameters_schema,
    parse_data_url,
    response_schema,
    tool_arguments,
    tool_calls,
    tool_definitions,
    tool_input,
)
from services.generation.providers.dialects.reply_fields import (
    as_block_text,
    as_finish_reason,
    as_index,
    as_json_text,
    as_name,
    as_object,
    as_objects,
    as_told_error,
)
from shared.contracts.chat import (
    ChatMessage,
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
_REFUSAL = "refusal"
_ERROR_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""https://platform.claude.com/docs/en/api/errors, 2026-11"""
_ANSWER_TYPES = ("message", "content_block", "ping")
"""How the types of replies and events begin that are no error, whatever else is in them."""
_RESERVED_FIELDS = frozenset({"model", "messages", "system", "stream"})
"""Fields that `other` cannot override: the response could not be read any more."""
_DEFAULT_MAX_TOKENS = 4096
"""`max_tokens` is mandatory; every model since Claude 2 may write so much."""


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
    """Return tools and choice. A history with calls needs tools; if the config has none, none may be called."""
    tools = tool_definitions(request)
    if not tools:
        return {}
    written = [
        {"name": tool.name, "input_schema": parameters_schema(tool)}
        | ({"description": tool.description} if tool.description else {})
        | ({"strict": tool.strict} if tool.strict is not None else {})
        for tool in tools
    ]
    return {"tools": written, "tool_choice": _tool_choice(request.tool_choice if request.config.tools else "none")}


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
    fields = as_object(reply)
    content = fields.get("content")
    if content is None:
        raise ValueError("no content")
    calls = [_tool_call(block) for block in _tool_uses(content)]
    reason = as_finish_reason(fields.get("stop_reason"), FINISH_REASONS) or "stop"
    choice = Choice(as_block_text(content), calls or None, reason, _refusal(fields.get("stop_reason")))
    return ModelResponse([choice], reply, read_usage(reply))


def _tool_uses(content: Any) -> list[Json]:  # noqa: ANN401
    return [block for block in as_objects(content) if block.get("type") == "tool_use"]


def _tool_call(block: Json) -> ToolCall:
    function = FunctionCall(name=as_name(block.get("name")) or "", arguments=as_json_text(block.get("input")))
    return ToolCall(id=as_name(block.get("id")) or "", function=function)


def _refusal(stop_reason: Any) -> str | None:  # noqa: ANN401
    """Return the word for `Choice.refusal`: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons"""
    return _REFUSAL if stop_reason == _REFUSAL else None


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    content: list[Json] = [{"type": "text", "text": choice.text}] if choice.text else []
    for call in choice.tool_calls or ():
        name, value = call.function.name, tool_input(call.function.arguments)
        content.append({"type": "tool_use", "id": call.id, "name": name, "input": value})
    stop_reason = choice.refusal or (choice.finish_reason and PROVIDER_FINISH_REASONS[choice.finish_reason])
    reply: Json = accumulator.response_fields | {"content": content, "stop_reason": stop_reason}
    return reply | ({"usage": accumulator.raw_usage} if accumulator.raw_usage else {})


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event by what is in it, since some proxies give its type as the stream's field `event` alone; of other
    types only the usage is read, as Anthropic may add new ones at any time."""
    fields = as_object(event)
    kind, usage = fields.get("type"), read_usage(event)
    if isinstance(kind, str) and not kind.startswith(_ANSWER_TYPES):
        return ResponseDelta(usage=usage)
    message, block, delta = as_object(fields.get("message")), fields.get("content_block"), fields.get("delta")
    index, stop_reason = as_index(fields.get("index"), 0), as_object(delta).get("stop_reason")
    said = (message.get("content"), block, None if kind == "message_delta" else delta)
    return ResponseDelta(
        text="".join(map(as_block_text, said)),
        tool_calls=(*_whole_calls(message), *_block_start(index, block), *_block_delta(index, delta)),
        finish_reason=as_finish_reason(stop_reason, FINISH_REASONS),
        is_last=kind == "message_stop",
        refusal=_refusal(stop_reason),
        usage=usage,
        raw_usage=_usage_object(fields) or None,
        response_fields={key: message[key] for key in ("id", "type", "role", "model") if key in message},
    )


def _whole_calls(message: Json) -> Iterator[ToolCallPart]:
    """Yield the calls in the message that begins a stream, which is empty with Anthropic itself."""
    for call in map(_tool_call, _tool_uses(message.get("content"))):
        yield ToolCallPart(None, call.id, call.function.name, call.function.arguments or "")


def _block_start(index: int, block: Any) -> Iterator[ToolCallPart]:  # noqa: ANN401
    """Yield the call that a block begins; its input is empty there and comes in deltas; others send it whole."""
    for use in _tool_uses(block):
        whole = as_json_text(use.get("input") or None) or ""
        yield ToolCallPart(index, as_name(use.get("id")), as_name(use.get("name")), default_arguments=whole)


def _block_delta(index: int, delta: Any) -> Iterator[ToolCallPart]:  # noqa: ANN401
    fields = as_object(delta)
    if "partial_json" in fields:
        yield ToolCallPart(index, arguments=as_json_text(fields["partial_json"]) or "")


# Usage and errors


def read_usage(reply: Any) -> Usage | None:  # noqa: ANN401
    """Return the usage; prompt tokens are the sum of uncached ones, those written to the cache and those read from it.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching, 2026-11. Events may have the output alone.
    """
    usage = _usage_object(as_object(reply))
    written, read = usage.get("cache_creation_input_tokens"), usage.get("cache_read_input_tokens")
    prompt = [] if usage.get("input_tokens") is None else [usage["input_tokens"], written, read]
    return usage_from_counts(prompt, [usage.get("output_tokens")], cached=read, cache_writes=written)


def _usage_object(reply: Json) -> Json:
    """Return the usage of a response or an event; that of the first event is in its message."""
    return as_object(as_object(reply.get("message")).get("usage", reply.get("usage")))


def read_error(payload: Any) -> ReportedError | None:  # noqa: ANN401
    """Read `{"type": "error", "error": {"type": …, "message": …}}`, as a response and as an event."""
    fields = as_object(payload)
    is_answer = "content" in fields or str(fields.get("type")).startswith(_ANSWER_TYPES)
    return as_told_error(payload, _ERROR_STATUSES, is_answer=is_answer)
