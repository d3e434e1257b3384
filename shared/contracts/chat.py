"""Values of a conversation, as the v4 contract has them; other contracts and the HTTP schemas contain these."""

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
    """Where an image is."""

    url: str
    """`https://…` or a base64 `data:` URL."""
    detail: Literal["high", "low", "auto"] | None = None


class Image(Value):
    """An image part of a message."""

    type: Literal["image_url"] = "image_url"
    image_url: ImageUrl


Part = Annotated[Text | Image, Field(discriminator="type")]


class FunctionCall(Value):
    """What the model wants called."""

    name: str
    arguments: str | None = None
    """JSON text, as the model wrote it; it may be invalid JSON."""


class ToolCall(Value):
    """One of the calls in an assistant message."""

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
    """A function chosen by name."""

    name: str


class FunctionChoice(Value):
    """`tool_choice` that names one function."""

    type: Literal["function"] = "function"
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | FunctionChoice


class ResponseFormat(Value):
    """JSON mode, or an answer that follows a JSON schema."""

    type: Literal["json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class InlineTool(Value):
    """A function the model may ask for; part of the config version."""

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
    """A function the organisation keeps; referenced, so that editing it changes every user of it."""

    id: Annotated[str, StringConstraints(min_length=1)]
    source: Literal["organization"]
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    parameters: dict[str, Any] | None = None


def _how_a_tool_is_given(value: Any) -> str:  # noqa: ANN401 - anything may arrive
    """By its id and `source` alone: a link that was read has all the fields of an inline tool beside it."""
    if isinstance(value, dict):
        return "linked" if value.get("source") == "organization" and value.get("id") else "inline"
    return "linked" if isinstance(value, LinkedTool) else "inline"


ConfigTool = Annotated[
    Annotated[LinkedTool, Tag("linked")] | Annotated[InlineTool, Tag("inline")], Discriminator(_how_a_tool_is_given)
]
"""A tool of a config (behaviour.md §14.3)."""


class Usage(Value):
    """Tokens of a call. `total_tokens` is the sum of the other two."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    """Includes tokens of tool calls and hidden reasoning, as providers count them."""
    total_tokens: int = 0


class ToolResult(Value):
    """What a tool in the template gave."""

    id: str
    name: str
    signature: str
    """The call as written in the template."""
    result: str
