"""The wire language of AWS Bedrock's Converse API, which is one for all its models.

Converse: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html · streams:
…/API_runtime_ConverseStream.html (2026-11, with the service model of botocore 1.44). Framing, signing and addresses:
`aws.py`.
"""

import json
import re
from typing import Any
from urllib.parse import quote

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
    InlineTool,
    Part,
    ToolCall,
    ToolChoice,
    Usage,
)
from shared.errors import Invalid

_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_call",
    "content_filtered": "stop",
    "guardrail_intervened": "stop",
    "malformed_model_output": "stop",
    "malformed_tool_use": "stop",
}
_PROVIDER_FINISH_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_call": "tool_use",
}
_RESERVED_FIELDS = frozenset({"model", "modelId", "messages", "system", "stream"})
"""Fields that `other` cannot override: the response could not be read any more."""
_CONVERSE = frozenset(
    {"additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "inferenceConfig",
     "outputConfig", "performanceConfig", "promptVariables", "requestMetadata", "serviceTier", "toolConfig"}
)  # fmt: skip
"""Fields of `other` that are Converse's own; the rest is sent as `additionalModelRequestFields`."""
_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_USER = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}")
"""Values that `requestMetadata` accepts."""


def _finish_reason(reason: str | None) -> FinishReason | None:
    return None if reason is None else _FINISH_REASONS.get(reason, "stop")


# Request


def url(base_url: str, request: ModelRequest) -> str:
    """Return the URL; the model is quoted, as it may be an ARN, which has slashes."""
    verb = "converse-stream" if request.stream else "converse"
    return f"{base_url}/model/{quote(request.config.model, safe='')}/{verb}"


def headers(key: str | None) -> dict[str, str]:
    """Return a Bedrock API key as a bearer token; with an access key the request is signed instead (`aws.sign`)."""
    return {"Authorization": f"Bearer {key}"} if key and ":" not in key else {}


def body(request: ModelRequest) -> Json:
    """Return the body; `temperature` always, as models differ in their default; `topP` only if not 1, as newer models
    of Anthropic refuse both together."""
    config = request.config
    system, merged = alternate(request.messages or [], _blocks)
    inference: Json = {
        "temperature": config.temperature,
        "topP": None if config.top_p == 1 else config.top_p,
        "maxTokens": request.max_output_tokens,
        "stopSequences": [config.stop] if isinstance(config.stop, str) else config.stop,
    }
    other = {key: value for key, value in config.other.items() if key not in _RESERVED_FIELDS}
    optional: Json = {
        "system": [{"text": system}] if system else None,
        "inferenceConfig": {key: value for key, value in inference.items() if value is not None},
        "toolConfig": _tools(request),
        "outputConfig": _output(request),
        "requestMetadata": _metadata(request.user),
        "additionalModelRequestFields": {key: value for key, value in other.items() if key not in _CONVERSE} or None,
    }
    sent: Json = {"messages": [{"role": message.role, "content": message.blocks} for message in merged]}
    sent |= {key: value for key, value in optional.items() if value is not None}
    sent |= {key: value for key, value in other.items() if key in _CONVERSE}
    if isinstance(overrides := other.get("inferenceConfig"), dict):  # merged field by field
        sent["inferenceConfig"] = optional["inferenceConfig"] | overrides
    return sent


def _metadata(user: str | None) -> Json | None:
    """Return `requestMetadata`, which Bedrock writes into the invocation log. Raises Invalid (characters, length)."""
    if user and not _USER.fullmatch(user):
        raise Invalid("user: AWS Bedrock takes at most 256 letters, digits, spaces and :_@$#=/+,.- there.")
    return {"user": user} if user else None


def _output(request: ModelRequest) -> Json | None:
    if request.response_format is None:
        return None
    schema = response_schema(request.response_format.json_schema)
    written = {"schema": json.dumps(schema["schema"])} | {
        key: schema[key] for key in ("name", "description") if schema.get(key)
    }
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": written}}}


def _tools(request: ModelRequest) -> Json | None:
    """Return `toolConfig`, or None without tools or with `tool_choice: none`, which Converse does not have.

    Raises Invalid for `none` if the conversation has tool calls: then Converse requires the tools.
    """
    tools = [require_inline(tool) for tool in request.config.tools or ()]
    if request.tool_choice == "none":
        if tools and any(message.tool_calls or message.role == "tool" for message in request.messages or ()):
            raise Invalid(
                "tool_choice: AWS Bedrock cannot do 'none' once the conversation has tool calls: leave tool_choice out."
            )
        return None
    if not tools:
        return None
    written: Json = {"tools": [{"toolSpec": _tool(tool)} for tool in tools]}
    if request.tool_choice is not None:
        written["toolChoice"] = _tool_choice(request.tool_choice)
    return written


def _tool(tool: InlineTool) -> Json:
    return (
        {"name": tool.name, "inputSchema": {"json": parameters_schema(tool)}}
        | ({"description": tool.description} if tool.description else {})
        | ({"strict": tool.strict} if tool.strict is not None else {})
    )


def _tool_choice(choice: ToolChoice) -> Json:
    if isinstance(choice, FunctionChoice):
        return {"tool": {"name": choice.function.name}}
    return {"any" if choice == "required" else "auto": {}}


def _blocks(message: ChatMessage) -> list[Json]:
    blocks = [_block(message, part) for part in content_parts(message)]
    if message.role == "tool":
        return [{"toolResult": {"toolUseId": message.tool_call_id, "content": blocks}}]
    if message.role != "assistant":
        return blocks
    return blocks + [
        {"toolUse": {"toolUseId": call.id, "name": call.function.name, "input": tool_arguments(call)}}
        for call in tool_calls(message)
    ]


def _block(message: ChatMessage, part: Part) -> Json:
    if not isinstance(part, Image):
        return {"text": part.text}
    if message.role == "assistant":
        raise Invalid("messages: AWS Bedrock takes images from the user only; put the image into a user message.")
    media, data = parse_data_url(part) or (None, None)
    if (format_ := _FORMATS.get(media or "")) is None:
        raise Invalid(
            "messages: AWS Bedrock takes images as data URLs of type image/png, image/jpeg, image/gif or image/webp."
        )
    return {"image": {"format": format_, "source": {"bytes": data}}}


# Reply


def read_response(request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401, ARG001
    """Parse a response that is not streamed; reasoning is in `raw` alone."""
    blocks = reply["output"]["message"]["content"]
    calls = [_tool_call(block["toolUse"]) for block in blocks if "toolUse" in block]
    text = "".join(block["text"] for block in blocks if "text" in block)
    reason = _finish_reason(reply["stopReason"]) or "stop"
    return ModelResponse([Choice(text, calls or None, reason)], reply, _usage(reply.get("usage")))


def _tool_call(use: Json) -> ToolCall:
    value = use["input"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return ToolCall(id=use["toolUseId"], function=FunctionCall(name=use["name"], arguments=text))


def write_response(request: ModelRequest, accumulator: StreamAccumulator) -> Json:  # noqa: ARG001
    """Return the accumulated events in the form of a response that is not streamed."""
    choice = accumulator.choice()
    content: list[Json] = [{"text": choice.text}] if choice.text else []
    for call in choice.tool_calls or ():
        name, value = call.function.name, tool_input(call.function.arguments)
        content.append({"toolUse": {"toolUseId": call.id, "name": name, "input": value}})
    reply: Json = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _PROVIDER_FINISH_REASONS[choice.finish_reason] if choice.finish_reason else None,
    }
    if accumulator.usage:
        reply["usage"] = {
            "inputTokens": accumulator.usage.prompt_tokens,
            "outputTokens": accumulator.usage.generation_tokens,
            "totalTokens": accumulator.usage.total_tokens,
        }
    return reply


# Stream


def read_event(request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401, ARG001
    """Parse one event; other types give an empty delta."""
    ((kind, payload),) = event.items()
    match kind:
        case "contentBlockStart":
            return _block_start(payload["contentBlockIndex"], payload["start"])
        case "contentBlockDelta":
            return _block_delta(payload["contentBlockIndex"], payload["delta"])
        case "messageStop":
            return ResponseDelta(finish_reason=_finish_reason(payload["stopReason"]))
        case "metadata":
            return ResponseDelta(usage=_usage(payload.get("usage")))
        case _:
            return ResponseDelta()


def _block_start(index: int, start: Json) -> ResponseDelta:
    if (use := start.get("toolUse")) is None:
        return ResponseDelta()
    return ResponseDelta(tool_calls=(ToolCallPart(index, id=use["toolUseId"], name=use["name"]),))


def _block_delta(index: int, delta: Json) -> ResponseDelta:
    if (use := delta.get("toolUse")) is not None:
        return ResponseDelta(tool_calls=(ToolCallPart(index, arguments=use["input"]),))
    return ResponseDelta(text=delta.get("text", ""))


# Usage and errors


def _usage(usage: Json | None) -> Usage | None:
    """Return the usage; prompt tokens are the sum of uncached ones, those read from the cache and those written to it.

    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html, 2026-11
    """
    if not isinstance(usage, dict) or not usage:
        return None
    names = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    return usage_from_counts([usage.get(name) for name in names], [usage.get("outputTokens")])


def error_detail(payload: Any) -> str | None:  # noqa: ANN401
    """Read `{"message": …}` (`Message` from AWS's front ends), and exceptions of a stream in the form of
    `aws.event_stream`."""
    if not isinstance(payload, dict):
        return None
    exception = payload.get("exception")
    if isinstance(exception, dict):
        return _exception(exception)
    message = payload.get("message") or payload.get("Message")
    return str(message) if message else None


def _exception(exception: Json) -> str:
    kind, payload = str(exception.get("type")), str(exception.get("payload"))
    try:
        return error_detail(json.loads(payload)) or kind
    except ValueError:
        return payload or kind
