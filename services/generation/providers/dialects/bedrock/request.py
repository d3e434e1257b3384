"""Writes requests in the wire language of Converse."""

import json
import re
from urllib.parse import quote

from services.generation.models.request import Json, ModelRequest
from services.generation.providers.dialects.alternating_messages import (
    alternate,
    content_parts,
    parameters_schema,
    parse_data_url,
    response_schema,
    tool_arguments,
    tool_calls,
    tool_definitions,
)
from shared.contracts.chat import ChatMessage, FunctionChoice, Image, InlineTool, Part, ToolChoice
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

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


def check(config: ModelConfig) -> None:
    """Raises Invalid if the model is a step in a path, in which its name stands."""
    if config.model in {".", ".."}:
        raise Invalid(f"{config.model!r} is not a model of AWS Bedrock: model must be its id or its ARN.")


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
    tools = tool_definitions(request)
    if request.tool_choice == "none" and request.config.tools:
        if any(message.tool_calls or message.role == "tool" for message in request.messages or ()):
            raise Invalid(
                "tool_choice: AWS Bedrock cannot do 'none' once the conversation has tool calls: leave tool_choice out."
            )
        return None
    if not tools:
        return None
    written: Json = {"tools": [{"toolSpec": _tool(tool)} for tool in tools]}
    if request.tool_choice is not None and request.config.tools:
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
