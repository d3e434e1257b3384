"""The template language (behaviour.md §3): `{{ name }}` is an input, `{{ tool(arguments) }}` a call of a tool. With two
spaces inside the braces it is plain text, as callers of old rely on.

Inputs and results of tools are inserted in one pass over the template, and never read as template text again. A missing
input is an error, never an empty string. Nothing is executed here: `find_tool_calls` returns the calls to make, and
`populate` takes their results.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.generation.templates.text_budget import TextBudget, shown
from shared.contracts.chat import ChatMessage, Image, Text
from shared.errors import Invalid

MAX_BRACES = 20_000
"""How often `{{` may stand in the templates of one request: bounds the time to populate them."""
_MAX_ARGUMENTS = 20
"""Of one call; no tool has more parameters."""
_MAX_NAMES_SHOWN = 100
"""Of missing inputs in an error."""

# No quantifier gives back what it took (`++`, `*+`), so that matching takes time in proportion and no memory.
_PLACEHOLDER = re.compile(
    r"\{\{\s?+(?:"
    r"(?P<name>[a-zA-Z_\d.\[\]]++)"
    r"|(?P<call>(?P<tool>[a-zA-Z_\-\d]++)\((?P<arguments>(?:[a-zA-Z_\-\d,.\s]++|\"[^\"]*+\")++)\))"
    r")\s?+\}\}"
)
_ARGUMENT = re.compile(
    r"\s*+(?:\"(?P<literal>[^\"]*+)\"|(?P<number>-?\d++(?:\.\d++)?+)|(?P<name>[^\s,\"]++))\s*+(?P<more>,|\Z)"
)
_PATH = re.compile(r"[a-zA-Z_\d]++(?:\.[a-zA-Z_\d]++|\[\d++\])++")
_STEP = re.compile(r"[a-zA-Z_\d]++")
_MISSING = object()
_SUBJECT = "The populated template"


def _look_up(name: str, inputs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return the input of exactly this name, else the value at this path (`user.tags[0]`), else `_MISSING`."""
    if name in inputs:
        return inputs[name]
    if not _PATH.fullmatch(name):
        return _MISSING
    value: Any = inputs
    for step in (match[0] for match in _STEP.finditer(name)):
        if isinstance(value, Mapping):
            value = value.get(step, _MISSING)
        elif isinstance(value, list) and step.isdecimal() and len(step) < 10 and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _to_text(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


@dataclass(frozen=True)
class ToolReference:
    """A call of a tool in a template, with its arguments."""

    signature: str
    """The call as it is written in the template; calls with equal text are one call."""
    name: str
    arguments: tuple[str, ...]
    """Values of inputs, and literals."""


class _Values:
    """The inputs of one request as text: each is written as text once, however often it is named."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._inputs = inputs
        self._texts: dict[str, str] = {}
        self._missing: set[str] = set()

    def has(self, name: str) -> bool:
        """Return whether there is a value for `name`; note it as missing otherwise."""
        if name in self._missing:
            return False
        value = _look_up(name, self._inputs)
        if value is _MISSING or value is None:
            self._missing.add(name)
            return False
        return True

    def text(self, name: str) -> str:
        """Return the value of `name` as text; empty if it is missing."""
        if (text := self._texts.get(name)) is None:
            text = self._texts[name] = _to_text(_look_up(name, self._inputs)) if self.has(name) else ""
        return text

    def raise_if_missing(self) -> None:
        """Raise Invalid if a value was asked for that there is none of."""
        if not self._missing:
            return
        names = [shown(name) for name in sorted(self._missing)]
        more = f" and {len(names) - _MAX_NAMES_SHOWN} more" if len(names) > _MAX_NAMES_SHOWN else ""
        raise Invalid(f"Prompt requires inputs for the following variables: {names[:_MAX_NAMES_SHOWN]}{more}")


def _texts(template: str | Sequence[ChatMessage]) -> Iterator[str]:
    """Yield the texts of a template that may have placeholders."""
    if isinstance(template, str):
        yield template
        return
    for message in template:
        if isinstance(message.content, str):
            yield message.content
        else:
            yield from (part.text for part in message.content or () if isinstance(part, Text))


def _check_braces(template: str | Sequence[ChatMessage]) -> None:
    braces = sum(text.count("{{") for text in _texts(template))
    if braces > MAX_BRACES:
        raise Invalid(f"The template has '{{{{' {braces:,} times; at most {MAX_BRACES:,} times is possible.")


def _arguments(match: re.Match[str], values: _Values, budget: TextBudget) -> tuple[str, ...]:
    """Return the arguments of a call. Raises Invalid if it cannot be read."""
    signature, text = match["call"], match["arguments"]
    arguments: list[str] = []
    position, more = 0, not text.isspace()
    while more:
        argument = _ARGUMENT.match(text, position)
        if argument is None:
            raise Invalid(
                f"The call {shown(signature)!r} in the template cannot be read. Its arguments are names of inputs, "
                'numbers or "literals" in double quotes, with a comma between each two.'
            )
        if len(arguments) == _MAX_ARGUMENTS:
            raise Invalid(f"The call {shown(signature)!r} in the template has more than {_MAX_ARGUMENTS} arguments.")
        literal = argument["literal"] if argument["literal"] is not None else argument["number"]
        value = values.text(argument["name"]) if literal is None else literal
        arguments.append(budget.take(value, argument["name"] or signature))
        position, more = argument.end(), argument["more"] == ","
    return tuple(arguments)


def find_tool_calls(template: str | Sequence[ChatMessage], inputs: Mapping[str, Any]) -> list[ToolReference]:
    """Return the tool calls of a template, each once, in order.

    Raises Invalid if inputs are missing, those of placeholders included, a call cannot be parsed, or the template or
    the arguments are over a limit.
    """
    _check_braces(template)
    values, budget = _Values(inputs), TextBudget(_SUBJECT)
    calls: dict[str, ToolReference] = {}
    for text in _texts(template):
        for match in _PLACEHOLDER.finditer(text):
            if (signature := match["call"]) is None:
                values.has(match["name"])
            elif signature not in calls:
                calls[signature] = ToolReference(signature, match["tool"], _arguments(match, values, budget))
    values.raise_if_missing()
    return list(calls.values())


class _Renderer:
    """Renders the templates of one request; what is over the limit is not written any more."""

    def __init__(self, inputs: Mapping[str, Any], results: Mapping[str, str]) -> None:
        self._results = results
        self._budget = TextBudget(_SUBJECT)
        self.values = _Values(inputs)

    def render(self, template: str) -> str:
        pieces: list[str] = []
        end = 0
        for match in _PLACEHOLDER.finditer(template):
            pieces.append(self._budget.take(template[end : match.start()]))
            name, signature = match["name"], match["call"]
            value = self.values.text(name) if signature is None else self._results[signature]
            pieces.append(self._budget.take(value, name or signature))
            end = match.end()
        pieces.append(self._budget.take(template[end:]))
        return "".join(pieces)

    def message(self, message: ChatMessage) -> ChatMessage:
        match message.content:
            case None:
                return message
            case str(text):
                return message.model_copy(update={"content": self.render(text)})
            case parts:
                return message.model_copy(update={"content": [self._part(part) for part in parts]})

    def _part(self, part: Text | Image) -> Text | Image:
        return Text(text=self.render(part.text)) if isinstance(part, Text) else part


def populate(template: str, inputs: Mapping[str, Any], results: Mapping[str, str]) -> str:
    """Return the prompt of a template; `results` of its tool calls are by signature.

    Raises Invalid if inputs are missing or it takes more than `text_budget.MAX_BYTES`.
    """
    _check_braces(template)
    renderer = _Renderer(inputs, results)
    text = renderer.render(template)
    renderer.values.raise_if_missing()
    return text


def populate_chat(
    template: Sequence[ChatMessage], inputs: Mapping[str, Any], results: Mapping[str, str]
) -> list[ChatMessage]:
    """Return the messages of a chat template, populated like `populate`; messages without content stay as they are.

    The limits are those of all messages together.
    """
    _check_braces(template)
    renderer = _Renderer(inputs, results)
    messages = [renderer.message(message) for message in template]
    renderer.values.raise_if_missing()
    return messages
