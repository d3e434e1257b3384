"""Values of a conversation as in the v4 contract: messages, tool calls, usage. Contracts and HTTP schemas use them."""

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from shared.contracts.data_urls import with_true_media_type
from shared.contracts.value import Array, Value

Role = Literal["user", "assistant", "system", "tool"]
FinishReason = Literal["stop", "length", "tool_call"]


class Text(Value):
    """A text part of a message."""

    type: Literal["text"] = "text"
    text: str


class ImageUrl(Value):
    """The address of an image."""

    url: Annotated[str, AfterValidator(with_true_media_type)]
    """`https://…` or a base64 `data:` URL, with the media type of its bytes, whichever was sent."""
    detail: Literal["high", "low", "auto"] | None = None


class Image(Value):
    """An image part of a message."""

    type: Literal["image_url"] = "image_url"
    image_url: ImageUrl


Part = Annotated[Text | Image, Field(discriminator="type")]


def _json_text(arguments: Any) -> Any:  # noqa: ANN401 - anything may arrive
    """Return arguments that are any JSON value, as clients before 0.6 may send them, as its text."""
    return arguments if arguments is None or isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


class FunctionCall(Value):
    """The function a model asks to call."""

    name: str
    arguments: Annotated[str | None, BeforeValidator(_json_text)] = None
    """JSON text, as the model wrote it; it may be invalid JSON."""


class ToolCall(Value):
    """A tool call in an assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Value):
    """One message of a conversation."""

    role: Role
    content: str | Array[Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    """Of a tool's message: the call it answers. None: the deprecated `tool_call` of the newest assistant message."""
    tool_calls: Array[ToolCall] | None = None
    tool_call: FunctionCall | None = None
    """Deprecated form of `tool_calls` with one entry, without an id."""


class FunctionName(Value):
    """Names the function of a `FunctionChoice`."""

    name: str


class FunctionChoice(Value):
    """A `tool_choice` that forces one function."""

    type: Literal["function"] = "function"
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | FunctionChoice


class ResponseFormat(Value):
    """Asks the model for JSON, or for JSON that follows a schema."""

    type: Literal["json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


ToolSource = Literal["organization", "inline"]
"""Where a tool is defined: in the organisation, or in the config itself."""


def move_source_code(tool: Any) -> Any:  # noqa: ANN401 - anything may arrive
    """Return a tool's fields with a `source` that is no `ToolSource` as `source_code`: clients before 0.6 mean that.

    An empty one is none. A `source_code` of its own stays, and then another `source` is left to be refused.
    """
    if not isinstance(tool, dict):
        return tool
    source, code = tool.get("source"), tool.get("source_code")
    if not isinstance(source, str) or source in get_args(ToolSource) or (source and code not in (None, source)):
        return tool
    fields = {name: value for name, value in tool.items() if name != "source"}
    return fields | {"source_code": source} if source else fields


class InlineTool(Value):
    """A function the model may call, defined in the config itself."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments."""
    strict: bool | None = None
    source: ToolSource | None = None
    source_code: str | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None

    _move_source_code = model_validator(mode="before")(move_source_code)


class LinkedTool(Value):
    """A reference to a function of the organisation: editing that function changes every config that links to it."""

    id: Annotated[str, StringConstraints(min_length=1)]
    source: Literal["organization"]
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    parameters: dict[str, Any] | None = None


def _tool_tag(value: Any) -> str:  # noqa: ANN401 - anything may arrive
    """Return `linked` or `inline`, by `id` and `source` alone: a link may have all fields of an inline tool as well."""
    if isinstance(value, dict):
        return "linked" if value.get("source") == "organization" and value.get("id") else "inline"
    return "linked" if isinstance(value, LinkedTool) else "inline"


ConfigTool = Annotated[
    Annotated[LinkedTool, Tag("linked")] | Annotated[InlineTool, Tag("inline")], Discriminator(_tool_tag)
]
"""A tool of a config (behaviour.md §14.3)."""


class Usage(Value):
    """Token counts of a call. `total_tokens` is the sum of the first two."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    """Tokens of the answer, those of tool calls and hidden reasoning included, as providers count them."""
    total_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens: read from the provider's cache, where most cost a fraction."""
    cache_write_tokens: int = 0
    """Of the prompt tokens: written to the provider's cache, which some charge more for."""


class ToolResult(Value):
    """The result of a tool called in a template."""

    id: str
    name: str
    signature: str
    """The call as written in the template."""
    result: str
