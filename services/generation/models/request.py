"""What every provider takes and gives, and how the pieces of a streamed sample are joined into one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any

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
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid

Json = dict[str, Any]

_MOST_TOKENS = 2**53
"""A provider that claims more is mistaken, and more than 64 bits could not be stored."""


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
    """Of the request if it has one, else of the config."""
    seed: int | None = None
    """Of the request if it has one, else of the config."""
    user: str | None = None
    logprobs: int | None = None
    suffix: str | None = None
    save: bool = True
    """False: its content is for the provider and the caller alone, not for logs and traces."""
    rest_tokens: int | None = None
    """What the model may write at most when `config.max_tokens` is -1; None when its limits are not known."""

    @property
    def budget(self) -> int | None:
        """Tokens the answer may have; None: as many as the provider gives by itself."""
        return self.rest_tokens if self.config.max_tokens == -1 else self.config.max_tokens


def functions(config: ModelConfig) -> list[InlineTool]:
    """The tools a model is told of. Errors: Invalid (a link to a tool that was not found)."""
    for tool in config.tools or ():
        if not isinstance(tool, InlineTool):
            raise Invalid(f"The config links to the tool {tool.id!r}, but this organisation has no tool of that id.")
    return [tool for tool in config.tools or () if isinstance(tool, InlineTool)]


def asked_calls(message: ChatMessage) -> list[ToolCall]:
    """The tool calls of an assistant message, in whichever of the two forms it has them."""
    if message.tool_call and not message.tool_calls:
        return [ToolCall(id="call_0", function=message.tool_call)]
    return message.tool_calls or []


@dataclass(frozen=True)
class Choice:
    """One sample as the model gave it."""

    text: str = ""
    """Untouched; empty when the provider gave null."""
    tool_calls: list[ToolCall] | None = None
    finish_reason: FinishReason | None = None
    """An ordinary end with tool calls is `tool_call`, whatever the provider's word: Gemini always says STOP."""

    def __post_init__(self) -> None:
        """A stream tells calls and end apart, so the rule can only be applied to both together. Errors: TypeError."""
        _check_type(self.text, str)
        if self.tool_calls and self.finish_reason == "stop":
            object.__setattr__(self, "finish_reason", "tool_call")


@dataclass(frozen=True)
class ModelResponse:
    """The answer to a request that is not streamed."""

    choices: list[Choice]
    raw: Json
    """What the provider sent."""
    usage: Usage | None = None
    """Of all choices together."""


@dataclass(frozen=True)
class ToolCallPart:
    """A piece of a tool call; pieces with the same index belong together."""

    index: int | None
    """None: a whole call, from a provider that does not count them."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""

    def __post_init__(self) -> None:
        """Errors: TypeError."""
        _check_type(self.index, int | None)
        for text in (self.id, self.name):
            _check_type(text, str | None)
        _check_type(self.arguments, str)


@dataclass(frozen=True)
class ResponseDelta:
    """One event of a streamed sample."""

    text: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    about: Json = field(default_factory=dict)
    """What the event says about the whole answer: its id, the model that answered."""
    logprobs: Json | None = None
    """Of the pieces in it, lists by name."""

    def __post_init__(self) -> None:
        """Errors: TypeError."""
        _check_type(self.text, str)


def _check_type(value: object, kind: type | UnionType) -> None:
    """What providers send is of any type. Here it is found out, and not where a log is written."""
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind} should be")


def told_usage(prompt: Sequence[Any], generated: Sequence[Any]) -> Usage | None:
    """The sums of what a provider told; null is 0. None if that are no counts: then they are counted here."""
    sums = []
    for numbers in (prompt, generated):
        known = [0 if number is None else number for number in numbers]
        if not all(isinstance(number, int | float) and 0 <= number <= _MOST_TOKENS for number in known):
            return None
        sums.append(sum(int(number) for number in known))
    return Usage(prompt_tokens=sums[0], generation_tokens=sums[1], total_tokens=sum(sums))


class StreamAccumulator:
    """A streamed sample as far as it came."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._tool_calls: list[list[ToolCallPart]] = []
        self._newest: dict[int | None, list[ToolCallPart]] = {}
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.about: Json = {}
        self.logprobs: dict[str, list[Any]] = {}

    def add(self, chunk: ResponseDelta) -> None:
        """Take the next event."""
        if chunk.text:
            self._text.append(chunk.text)
        for part in chunk.tool_calls:
            self._parts_of_its_call(part).append(part)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.usage = _merged(self.usage, chunk.usage)
        self.about.update(chunk.about)
        for name, values in (chunk.logprobs or {}).items():
            if isinstance(values, list):
                self.logprobs.setdefault(name, []).extend(values)

    def _parts_of_its_call(self, part: ToolCallPart) -> list[ToolCallPart]:
        """Some servers count every call 0: a name under another id is another call. Some make a new id a piece."""
        known = self._newest.get(part.index)
        begins = part.index is None or (part.name and part.id and known and known[0].id not in {None, part.id})
        if known is None or begins:
            known = self._newest[part.index] = []
            self._tool_calls.append(known)
        return known

    @property
    def whole_usage(self) -> Usage | None:
        """What the provider counted, if its answer came to an end: before that it may have told the prompt's alone."""
        return self.usage if self.finish_reason else None

    def choice(self) -> Choice:
        """The sample so far, in the form a whole answer has."""
        # Deltas that belong to no name are of something else that the provider streams so: a search of its own.
        named = [parts for parts in self._tool_calls if any(part.name for part in parts)]
        calls = [_tool_call(index, parts) for index, parts in enumerate(sorted(named, key=_position))]
        return Choice("".join(self._text), calls or None, self.finish_reason)


def _merged(known: Usage | None, told: Usage | None) -> Usage | None:
    """Counts are told once or again and again, each the total so far; some providers tell the prompt's first."""
    if known is None or told is None:
        return told or known
    prompt = told.prompt_tokens or known.prompt_tokens
    generated = told.generation_tokens or known.generation_tokens
    return Usage(prompt_tokens=prompt, generation_tokens=generated, total_tokens=prompt + generated)


def _position(parts: list[ToolCallPart]) -> int:
    return parts[0].index or 0


def _tool_call(index: int, parts: list[ToolCallPart]) -> ToolCall:
    """A call without arguments has an empty object, which some providers do not stream."""
    name = ""
    for part in parts:
        if part.name != name:  # some servers repeat it with every piece
            name += part.name or ""
    return ToolCall(
        id=next((part.id for part in parts if part.id), f"call_{index}"),
        function=FunctionCall(
            name=name,
            arguments="".join(part.arguments for part in parts) or "{}",
        ),
    )
