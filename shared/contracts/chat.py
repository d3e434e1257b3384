"""Values of a conversation as in the v4 contract: messages, tool calls, usage. Contracts and HTTP schemas use them."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from shared.contracts.value import Value

Role = Literal["user", "assistant", "system", "tool"]
FinishReason = Literal["stop", "length", "tool_call"]


class Text(Value):
    """A text part of a message."""

    type: Literal["text"] = "text"
    text: str


class ImageUrl(Value):
    """The address of an image."""

    url: str
    """`https://…` or a base64 `data:` URL."""
    detail: Literal["high", "low", "auto"] | None = None


class Image(Value):
    """An image part of a message."""

    type: Literal["image_url"] = "image_url"
    image_url: ImageUrl


Part = Annotated[Text | Image, Field(discriminator="type")]


class FunctionCall(Value):
    """The function a model asks to call."""

    name: str
    arguments: str | None = None
    """JSON text, as the model wrote it; it may be invalid JSON."""


class ToolCall(Value):
    """A tool call in an assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Value):
    """One message of a conversation."""

    role: Role
    content: str | list[Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call: FunctionCall | None = None
    """Deprecated form of `tool_calls` with one entry."""

    @model_validator(mode="after")
    def _tool_results_name_their_call(self) -> "ChatMessage":
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a message with role 'tool' needs tool_call_id, the id of the call it answers")
        return self


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


class InlineTool(Value):
    """A function the model may call, defined in the config itself."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments."""
    strict: bool | None = None
    source: Literal["organization", "inline"] | None = None
    source_code: str | None = None
    other: dict[str, Any] | None = None
    preset_name: str | None = None


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
    """Token counts of a call. `total_tokens` is the sum of the other two."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    """Tokens of the answer, those of tool calls and hidden reasoning included, as providers count them."""
    total_tokens: int = 0


class ToolResult(Value):
    """The result of a tool called in a template."""

    id: str
    name: str
    signature: str
    """The call as written in the template."""
    result: str
