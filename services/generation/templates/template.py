"""The template language (behaviour.md §3): `{{ name }}` is an input, `{{ tool(arguments) }}` a call of a tool. With two
spaces inside the braces it is text, as it always was.

Values and results of tools are put in by one pass over the template: they are never read as template text again. A
missing input is an error, never an empty string. Nothing is executed here: `calls` says what is to be called, and
`populate` takes what came of it.
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
    """The input of exactly this name, else what the path leads to: `user.tags[0]`."""
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


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


@dataclass(frozen=True)
class ToolReference:
    """A call of a tool, ready to be made."""

    signature: str
    """As written in the template: equal text is one call."""
    name: str
    arguments: tuple[str, ...]
    """Inputs by their values, literals as they are."""


class _Population:
    """One request's pass over its template; collects what is missing in all of it, and the calls of tools."""

    def __init__(self, inputs: Mapping[str, Any], results: Mapping[str, str] | None = None) -> None:
        self._inputs = inputs
        self._results = results
        self._missing: set[str] = set()
        self.calls: dict[str, ToolReference] = {}

    def fill(self, template: str) -> str:
        return _PLACEHOLDER.sub(self._replace, template)

    def fill_chat(self, template: Sequence[ChatMessage]) -> list[ChatMessage]:
        return [self._message(message) for message in template]

    def _message(self, message: ChatMessage) -> ChatMessage:
        match message.content:
            case None:
                return message
            case str(text):
                return message.model_copy(update={"content": self.fill(text)})
            case parts:
                return message.model_copy(update={"content": [self._part(part) for part in parts]})

    def _part(self, part: Text | Image) -> Text | Image:
        return Text(text=self.fill(part.text)) if isinstance(part, Text) else part

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
        return _text(value)

    def _arguments(self, signature: str, text: str) -> tuple[str, ...]:
        found: list[str] = []
        position, more = 0, not text.isspace()
        while more:
            argument = _ARGUMENT.match(text, position)
            if argument is None:
                raise Invalid(
                    f"The call {signature!r} in the template cannot be read. Its arguments are names of inputs, "
                    'numbers or "literals" in double quotes, with a comma between each two.'
                )
            given = argument["literal"] if argument["literal"] is not None else argument["number"]
            found.append(self._input(argument["name"]) if given is None else given)
            position, more = argument.end(), argument["more"] == ","
        return tuple(found)

    def finish(self) -> None:
        if self._missing:
            raise Invalid(f"Prompt requires inputs for the following variables: {sorted(self._missing)}")


def calls(template: str | Sequence[ChatMessage], inputs: Mapping[str, Any]) -> list[ToolReference]:
    """The calls of tools, each once. Errors: Invalid (missing inputs of any kind, a call that cannot be read)."""
    population = _Population(inputs)
    population.fill(template) if isinstance(template, str) else population.fill_chat(template)
    population.finish()
    return list(population.calls.values())


def populate(template: str, inputs: Mapping[str, Any], results: Mapping[str, str]) -> str:
    """The prompt. `results` has what each call gave, by its signature. Errors: Invalid, as `calls`."""
    population = _Population(inputs, results)
    text = population.fill(template)
    population.finish()
    return text


def populate_chat(
    template: Sequence[ChatMessage], inputs: Mapping[str, Any], results: Mapping[str, str]
) -> list[ChatMessage]:
    """The messages of a chat template; those without content pass through. Otherwise as `populate`."""
    population = _Population(inputs, results)
    messages = population.fill_chat(template)
    population.finish()
    return messages
