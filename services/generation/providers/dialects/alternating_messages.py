"""Conversations for languages that know the roles user and assistant alone, where turns alternate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from services.generation.models.request import Json
from services.generation.providers.transport.bounded_json import read_json
from shared.contracts.chat import ChatMessage, Image, InlineTool, LinkedTool, Part, Text, ToolCall
from shared.errors import Invalid

Role = Literal["user", "assistant"]
Blocks = Callable[[ChatMessage], list[Json]]
"""What a message says, in blocks of the provider's language; none if it says nothing."""


@dataclass(frozen=True)
class Turn:
    """Everything one side says before the other side speaks."""

    role: Role
    blocks: list[Json]


def take_turns(messages: list[ChatMessage], blocks: Blocks) -> tuple[str, list[Turn]]:
    """The system messages' text in their order, and the rest as alternating turns.

    Results of tools are the user's turn. Messages that say nothing are left out. A conversation of system messages
    alone is said by the user: these languages want somebody to answer. Errors: Invalid (nobody says anything).
    """
    system = "\n\n".join(text for message in messages if message.role == "system" if (text := _text(message)))
    turns: list[Turn] = []
    for message in messages:
        if message.role == "system" or not (said := blocks(message)):
            continue
        role: Role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1].role == role:
            turns[-1].blocks.extend(said)
        else:
            turns.append(Turn(role, said))
    if turns:
        return system, turns
    if not system:
        raise Invalid("messages: there is nothing to answer; send at least one message that says something.")
    return "", [Turn("user", blocks(ChatMessage(role="user", content=system)))]


def _text(message: ChatMessage) -> str:
    return "\n\n".join(part.text for part in parts(message) if isinstance(part, Text))


def parts(message: ChatMessage) -> list[Part]:
    """What a message says, without text that is empty or white space alone."""
    content = message.content or ""
    said: list[Part] = [Text(text=content)] if isinstance(content, str) else content
    return [part for part in said if isinstance(part, Image) or part.text.strip()]


def tool_calls(message: ChatMessage) -> list[ToolCall]:
    """The calls in an assistant's message. Errors: Invalid (the deprecated form, whose calls have no id)."""
    if message.tool_call is not None and not message.tool_calls:
        raise Invalid("messages: tool_call has no id, which this provider needs: send tool_calls instead.")
    return message.tool_calls or []


def arguments(call: ToolCall) -> Json:
    """A call's arguments as an object. Errors: Invalid (the text is something else)."""
    try:
        read = read_json((call.function.arguments or "").strip() or "{}")
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise Invalid(
            f"messages: the arguments of the tool call {call.id!r} must be the text of a JSON object for this provider."
        )
    return read


def as_sent(text: str | None) -> Any:  # noqa: ANN401 - any JSON
    """Arguments a model wrote, as its provider would have sent them whole.

    What broke off is no JSON and stays text; so does what could not be written down as JSON again (half of a
    surrogate pair, a number without end, nesting without end).
    """
    try:
        return read_json(text or "{}", allow_inf_nan=False)
    except ValueError:
        return text


def inline_image(image: Image) -> tuple[str, str] | None:
    """Media type and base64 data of an image in a `data:` URL (RFC 2397); None if its URL is an address.

    Errors: Invalid (a `data:` URL of another form).
    """
    url = image.image_url.url
    if url[:5].lower() != "data:":
        return None
    head, _, data = url[5:].partition(",")
    media, *parameters = head.lower().split(";")
    if not media or not data or parameters[-1:] != ["base64"]:
        raise Invalid("messages: an image's data URL must look like data:image/png;base64,<data>.")
    return media, data


def inline_tool(tool: InlineTool | LinkedTool) -> InlineTool:
    """The tool itself. Errors: Invalid (it is kept elsewhere)."""
    if not isinstance(tool, InlineTool):
        raise Invalid(f"The config links to the tool {tool.id!r}, but this organisation has no tool of that id.")
    return tool


def schema(tool: InlineTool) -> Json:
    """JSON schema of a tool's arguments; these languages want one of every tool."""
    return tool.parameters or {"type": "object", "properties": {}}


def answer_schema(json_schema: Json | None) -> Json:
    """The schema an answer must follow, with what OpenAI's form says beside it: `{"name", "schema", "strict", …}`.

    Errors: Invalid (there is none).
    """
    if not json_schema:
        raise Invalid("response_format: type 'json_schema' needs json_schema, as {'name': …, 'schema': {…}}.")
    return json_schema if isinstance(json_schema.get("schema"), dict) else {"schema": json_schema}
