"""The provider-independent request and response of a model, and the accumulator that joins the events of a stream."""

from dataclasses import dataclass, field
from types import UnionType
from typing import Any

from services.generation.models.usage import merge_usage
from shared.contracts.chat import (
    ChatMessage,
    FinishReason,
    FunctionCall,
    InlineTool,
    ResponseFormat,
    ToolCall,
    ToolChoice,
    Usage,
)
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

Json = dict[str, Any]

SIGNATURE_MARK = "~"
"""In the id of a tool call: what follows it is the signature that Gemini wants back with the call (dialects/gemini).
It occurs neither in ids of providers nor in base64."""


@dataclass(frozen=True)
class ModelRequest:
    """One request to a provider; exactly one of `messages` and `prompt` is set."""

    config: ModelConfig
    messages: list[ChatMessage] | None = None
    prompt: str | None = None
    samples: int = 1
    stream: bool = False
    """A streamed request has one sample."""
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    """The call's own if it has one, else the config's."""
    seed: int | None = None
    """The call's own if it has one, else the config's."""
    user: str | None = None
    logprobs: int | None = None
    suffix: str | None = None
    save: bool = True
    """False: its content goes to the provider and the caller alone, not into logs and traces."""
    remaining_output_tokens: int | None = None
    """The most tokens the answer may have if `config.max_tokens` is -1; None if the model's limits are not known."""

    @property
    def max_output_tokens(self) -> int | None:
        """The most tokens the answer may have; None: the provider's own default."""
        return self.remaining_output_tokens if self.config.max_tokens == -1 else self.config.max_tokens


def get_inline_tools(config: ModelConfig) -> list[InlineTool]:
    """Return the config's tools as they are sent to a model. Raises Invalid for a link that was not resolved."""
    for tool in config.tools or ():
        if not isinstance(tool, InlineTool):
            raise Invalid(f"The config links to the tool {tool.id!r}, but this organisation has no tool of that id.")
    return [tool for tool in config.tools or () if isinstance(tool, InlineTool)]


def get_tool_calls(message: ChatMessage) -> list[ToolCall]:
    """Return the tool calls of an assistant message, from `tool_calls` or the deprecated `tool_call`."""
    if message.tool_call and not message.tool_calls:
        return [ToolCall(id="call_0", function=message.tool_call)]
    return message.tool_calls or []


@dataclass(frozen=True)
class Choice:
    """One sample of a model's answer."""

    text: str = ""
    """As the provider sent it; empty for null."""
    tool_calls: list[ToolCall] | None = None
    finish_reason: FinishReason | None = None
    """With tool calls `stop` becomes `tool_call`: some providers do not tell them apart (Gemini always sends STOP)."""
    refusal: str | None = None
    """The provider's word for it if the model refused to answer, or a filter withheld it: `refusal`, `SAFETY` …"""

    def __post_init__(self) -> None:
        """Leave out calls without a name, which nobody can make, and normalise the reason; raise TypeError if `text` is
        no text.

        A stream sends calls and reason in separate events, so the reason is normalised here, where both are known.
        """
        _check_type(self.text, str)
        if not all(call.function.name for call in self.tool_calls or ()):
            named = [call for call in self.tool_calls or () if call.function.name]
            object.__setattr__(self, "tool_calls", named or None)
        if self.tool_calls and self.finish_reason == "stop":
            object.__setattr__(self, "finish_reason", "tool_call")


@dataclass(frozen=True)
class ModelResponse:
    """The answer to a request that is not streamed."""

    choices: list[Choice]
    raw: Json
    """The body as the provider sent it."""
    usage: Usage | None = None
    """Of all choices together; None: not reported."""


@dataclass(frozen=True)
class ToolCallPart:
    """A fragment of a tool call in a stream; fragments with the same index belong to one call."""

    index: int | None
    """None: a complete call, from a provider that does not number them."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    default_arguments: str = ""
    """What the call has if no part of it has arguments: some servers send them whole."""

    def __post_init__(self) -> None:
        """Raise TypeError for a field of another type."""
        _check_type(self.index, int | None)
        for text in (self.id, self.name):
            _check_type(text, str | None)
        _check_type(self.arguments, str)
        _check_type(self.default_arguments, str)


@dataclass(frozen=True)
class ResponseDelta:
    """One event of a streamed sample."""

    text: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()
    finish_reason: FinishReason | None = None
    is_last: bool = False
    """Whether the provider says that the answer has ended, also where it gives no reason."""
    usage: Usage | None = None
    raw_usage: Json | None = None
    """What `usage` was read from, as the provider sent it."""
    refusal: str | None = None
    """As in `Choice`."""
    withheld: str | None = None
    """Why the provider withholds the answer, if it does: completes a sentence that begins with its name."""
    response_fields: Json = field(default_factory=dict)
    """Fields of the whole response that the event has: its id, the model that answered."""
    logprobs: Json | None = None
    """Log probabilities of the tokens in this event: lists by name."""

    def __post_init__(self) -> None:
        """Raise TypeError if the text is none."""
        _check_type(self.text, str)

    @property
    def has_content(self) -> bool:
        """Whether some of the answer is in it."""
        return bool(self.text or self.tool_calls)


def _check_type(value: object, kind: type | UnionType) -> None:
    """Raise TypeError for another type: a provider's JSON is checked when it is read, not when a log is written."""
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind} should be")


class StreamAccumulator:
    """Joins the events of one streamed sample; what has arrived so far can be read at any time."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._tool_calls: list[list[ToolCallPart]] = []
        self._latest_call: dict[int | None, list[ToolCallPart]] = {}
        """By index: the parts of the call that the next part of this index belongs to."""
        self.finish_reason: FinishReason | None = None
        self.refusal: str | None = None
        self.usage: Usage | None = None
        self.raw_usage: Json = {}
        """The usage objects of the stream, each field as it was sent last."""
        self.response_fields: Json = {}
        self.logprobs: dict[str, list[Any]] = {}

    def add(self, delta: ResponseDelta) -> None:
        """Add the next event."""
        if delta.text:
            self._text.append(delta.text)
        for part in delta.tool_calls:
            self._call_of(part).append(part)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.refusal = delta.refusal or self.refusal
        self.usage = merge_usage(self.usage, delta.usage)
        if delta.raw_usage:
            self.raw_usage |= {name: value for name, value in delta.raw_usage.items() if value is not None}
        self.response_fields.update(delta.response_fields)
        for name, values in (delta.logprobs or {}).items():
            if isinstance(values, list):
                self.logprobs.setdefault(name, []).extend(values)

    def _call_of(self, part: ToolCallPart) -> list[ToolCallPart]:
        """Return the parts of the call this part belongs to, none yet if it begins a call.

        Some servers number every call 0: a name with another id begins a call. Some send a new id with every part.
        """
        call = self._latest_call.get(part.index)
        begins = part.index is None or (part.name and part.id and call and call[0].id not in {None, part.id})
        if call is None or begins:
            call = self._latest_call[part.index] = []
            self._tool_calls.append(call)
        return call

    @property
    def final_usage(self) -> Usage | None:
        """The reported usage once the answer has ended, else None: before its end it may be the prompt's alone."""
        return self.usage if self.finish_reason else None

    def choice(self) -> Choice:
        """Return what has arrived of the sample as a `Choice`, the form of an answer that is not streamed."""
        # Parts without a name are no call of ours: a provider streams its own tools (a web search) the same way.
        named = [parts for parts in self._tool_calls if any(part.name for part in parts)]
        calls = [_tool_call(parts) for parts in sorted(named, key=_index)]
        text = "".join(self._text)
        self._text = [text]  # instead of its pieces: who asks again gets the same, not another copy
        return Choice(text, calls or None, self.finish_reason, self.refusal)


def _index(parts: list[ToolCallPart]) -> int:
    return parts[0].index or 0


def _tool_call(parts: list[ToolCallPart]) -> ToolCall:
    """Join the parts of a call. Without arguments they are an empty object, which some providers do not stream."""
    default = next((part.default_arguments for part in reversed(parts) if part.default_arguments), "{}")
    name = ""
    for part in parts:
        if part.name != name:  # some servers repeat it with every part
            name += part.name or ""
    return ToolCall(
        id=next((part.id for part in parts if part.id), ""),
        function=FunctionCall(
            name=name,
            arguments="".join(part.arguments for part in parts) or default,
        ),
    )
