"""The template language (behaviour.md §3): `{{ name }}` is an input, `{{ tool(arguments) }}` a call of a tool. With two
spaces inside the braces it is plain text, as callers of old rely on.

Inputs and results of tools are inserted in one pass over the template, and never read as template text again. A missing
input is an error, never an empty string. Nothing is executed here: `find_tool_calls` returns the calls to make, and
`populate` takes their results.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.contracts.chat import ChatMessage, Image, Text
from shared.errors import Invalid

_PLACEHOLDER = re.compile(
    r"\{\{\s?(?:"
    r"(?P<name>[a-zA-Z_\d.\[\]]+)"
    r"|(?P<call>(?P<tool>[a-zA-Z_\-\d]+)\((?P<arguments>(?:[a-zA-Z_\-\d,.\s]|\"[^\"]*\")+)\))"
    r")\s?\}\}"
)
_ARGUMENT = re.compile(
    r"\s*(?:\"(?P<literal>[^\"]*)\"|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[^\s,\"]+))\s*(?P<more>,|$)"
)
_PATH = re.compile(r"[a-zA-Z_\d]+(?:\.[a-zA-Z_\d]+|\[\d+\])+")
_STEP = re.compile(r"[a-zA-Z_\d]+")
_MISSING = object()


def _look_up(name: str, inputs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return the input of exactly this name, else the value at this path (`user.tags[0]`), else `_MISSING`."""
    if name in inputs:
        return inputs[name]
    if not _PATH.fullmatch(name):
        return _MISSING
    value: Any = inputs
    for step in _STEP.findall(name):
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


class _Renderer:
    """Renders the templates of one request; collects the tool calls and the names of missing inputs of all of them."""

    def __init__(self, inputs: Mapping[str, Any], results: Mapping[str, str] | None = None) -> None:
        self._inputs = inputs
        self._results = results
        self._missing: set[str] = set()
        self.calls: dict[str, ToolReference] = {}

    def render(self, template: str) -> str:
        return _PLACEHOLDER.sub(self._replace, template)

    def render_chat(self, template: Sequence[ChatMessage]) -> list[ChatMessage]:
        return [self._message(message) for message in template]

    def _message(self, message: ChatMessage) -> ChatMessage:
        match message.content:
            case None:
                return message
            case str(text):
                return message.model_copy(update={"content": self.render(text)})
            case parts:
                return message.model_copy(update={"content": [self._part(part) for part in parts]})

    def _part(self, part: Text | Image) -> Text | Image:
        return Text(text=self.render(part.text)) if isinstance(part, Text) else part

    def _replace(self, match: re.Match[str]) -> str:
        if (signature := match["call"]) is None:
            return self._input(match["name"])
        if signature not in self.calls:
            self.calls[signature] = ToolReference(
                signature, match["tool"], self._arguments(signature, match["arguments"])
            )
        return "" if self._results is None else self._results[signature]

    def _input(self, name: str) -> str:
        value = _look_up(name, self._inputs)
        if value is _MISSING or value is None:
            self._missing.add(name)
            return ""
        return _to_text(value)

    def _arguments(self, signature: str, text: str) -> tuple[str, ...]:
        values: list[str] = []
        position, more = 0, not text.isspace()
        while more:
            argument = _ARGUMENT.match(text, position)
            if argument is None:
                raise Invalid(
                    f"The call {signature!r} in the template cannot be read. Its arguments are names of inputs, "
                    'numbers or "literals" in double quotes, with a comma between each two.'
                )
            literal = argument["literal"] if argument["literal"] is not None else argument["number"]
            values.append(self._input(argument["name"]) if literal is None else literal)
            position, more = argument.end(), argument["more"] == ","
        return tuple(values)

    def raise_if_missing(self) -> None:
        if self._missing:
            raise Invalid(f"Prompt requires inputs for the following variables: {sorted(self._missing)}")


def find_tool_calls(template: str | Sequence[ChatMessage], inputs: Mapping[str, Any]) -> list[ToolReference]:
    """Return the tool calls of a template, each once, in order.

    Raises Invalid if inputs are missing, those of placeholders included, or a call cannot be parsed.
    """
    renderer = _Renderer(inputs)
    renderer.render(template) if isinstance(template, str) else renderer.render_chat(template)
    renderer.raise_if_missing()
    return list(renderer.calls.values())


def populate(template: str, inputs: Mapping[str, Any], results: Mapping[str, str]) -> str:
    """Return the prompt of a template; `results` of its tool calls are by signature. Raises as `find_tool_calls`."""
    renderer = _Renderer(inputs, results)
    text = renderer.render(template)
    renderer.raise_if_missing()
    return text


def populate_chat(
    template: Sequence[ChatMessage], inputs: Mapping[str, Any], results: Mapping[str, str]
) -> list[ChatMessage]:
    """Return the messages of a chat template, populated like `populate`; messages without content stay as they are."""
    renderer = _Renderer(inputs, results)
    messages = renderer.render_chat(template)
    renderer.raise_if_missing()
    return messages
