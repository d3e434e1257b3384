"""Conversations for languages that know the roles user and assistant alone and want them to alternate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from services.generation.models.request import Json, ModelRequest, get_inline_tools
from services.generation.providers.transport.bounded_json import read_json, read_json_with_surrogates
from shared.contracts.chat import ChatMessage, FinishReason, Image, InlineTool, Part, Text, ToolCall
from shared.errors import Invalid

FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_call",
}
PROVIDER_FINISH_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_call": "tool_use",
}
"""The stop reasons of Anthropic, which Bedrock has for all models; any other, like `refusal`, means `stop`."""
Role = Literal["user", "assistant"]
ToBlocks = Callable[[ChatMessage], list[Json]]
"""Returns a message as content blocks of the provider's language; none if the message is empty."""


@dataclass(frozen=True)
class AlternatingMessage:
    """Consecutive messages of one role as one message of the provider's."""

    role: Role
    blocks: list[Json]


def alternate(messages: list[ChatMessage], to_blocks: ToBlocks) -> tuple[str, list[AlternatingMessage]]:
    """Return the system messages' text in their order, and the other messages merged so that roles alternate.

    Results of tools have the user's role and come first in its message, where both vendors want them. Empty messages
    are left out. A conversation of system messages alone becomes a user message: these languages need one to answer.
    Raises Invalid if every message is empty.
    """
    system = "\n\n".join(text for message in messages if message.role == "system" if (text := _text(message)))
    merged: list[AlternatingMessage] = []
    results = 0  # at the beginning of the newest message
    for message in messages:
        if message.role == "system" or not (blocks := to_blocks(message)):
            continue
        role: Role = "assistant" if message.role == "assistant" else "user"
        if not merged or merged[-1].role != role:
            merged.append(AlternatingMessage(role, []))
            results = 0
        if message.role == "tool":
            merged[-1].blocks[results:results] = blocks
            results += len(blocks)
        else:
            merged[-1].blocks.extend(blocks)
    if merged:
        return system, merged
    if not system:
        raise Invalid("messages: there is nothing to answer; send at least one message that says something.")
    return "", [AlternatingMessage("user", to_blocks(ChatMessage(role="user", content=system)))]


def _text(message: ChatMessage) -> str:
    return "\n\n".join(part.text for part in content_parts(message) if isinstance(part, Text))


def content_parts(message: ChatMessage) -> list[Part]:
    """Return a message's content as parts, without text that is empty or white space alone."""
    content = message.content or ""
    parts: list[Part] = [Text(text=content)] if isinstance(content, str) else content
    return [part for part in parts if isinstance(part, Image) or part.text.strip()]


def tool_calls(message: ChatMessage) -> list[ToolCall]:
    """Return the calls in an assistant's message. Raises Invalid if they are in the deprecated form, without an id."""
    if message.tool_call is not None and not message.tool_calls:
        raise Invalid("messages: tool_call has no id, which this provider needs: send tool_calls instead.")
    return message.tool_calls or []


def tool_arguments(call: ToolCall) -> Json:
    """Return a call's arguments as an object, an empty one for none and `null`, as some models write for a function
    without parameters. Raises Invalid if their text is something else."""
    try:
        arguments = read_json((call.function.arguments or "").strip() or "null", allow_inf_nan=False)
    except ValueError:
        arguments = call.function.arguments
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise Invalid(
            f"messages: the arguments of the tool call {call.id!r} must be the text of a JSON object for this provider."
        )
    return arguments


def tool_input(arguments: str | None) -> Any:  # noqa: ANN401 - any JSON
    """Return arguments a model streamed as text in the form of a response that is not streamed: parsed.

    Text that is not JSON (it broke off), or could not be written as JSON again (half of a surrogate pair, an infinite
    number, too deep), stays text.
    """
    try:
        read, has_surrogates = read_json_with_surrogates(arguments or "{}", allow_inf_nan=False)
    except ValueError:
        return arguments
    return arguments if has_surrogates else read


def parse_data_url(image: Image) -> tuple[str, str] | None:
    """Return media type and base64 data of an image in a `data:` URL (RFC 2397); None if it has another URL.

    Raises Invalid if the `data:` URL is not of the form `data:image/png;base64,<data>`.
    """
    url = image.image_url.url
    if url[:5].lower() != "data:":
        return None
    head, _, data = url[5:].partition(",")
    media_type, *parameters = head.lower().split(";")
    if not media_type or not data or parameters[-1:] != ["base64"]:
        raise Invalid("messages: an image's data URL must look like data:image/png;base64,<data>.")
    return media_type, data


def tool_definitions(request: ModelRequest) -> list[InlineTool]:
    """Return the config's tools; if it has none, those called in the messages, with any object as arguments.

    Both APIs refuse messages with calls or results in a request that defines no tools. Raises Invalid for a link that
    was not replaced by its tool, because there is none.
    """
    if request.config.tools:
        return get_inline_tools(request.config)
    names = dict.fromkeys(call.function.name for message in request.messages or () for call in tool_calls(message))
    return [InlineTool(name=name, parameters={"type": "object", "additionalProperties": True}) for name in names]


def parameters_schema(tool: InlineTool) -> Json:
    """Return the JSON schema of a tool's arguments; of any object if it has none, because these languages need one."""
    return tool.parameters or {"type": "object", "properties": {}}


def response_schema(json_schema: Json | None) -> Json:
    """Return `response_format.json_schema` in OpenAI's form, `{"name", "schema", "strict", …}`.

    A bare schema is wrapped. Raises Invalid if there is none.
    """
    if not json_schema:
        raise Invalid("response_format: type 'json_schema' needs json_schema, as {'name': …, 'schema': {…}}.")
    return json_schema if isinstance(json_schema.get("schema"), dict) else {"schema": json_schema}
