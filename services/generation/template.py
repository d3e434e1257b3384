"""The template language (behaviour.md §3): `{{ name }}` is an input, `{{ tool(arguments) }}` a call of a tool.

One pass over the template: a value is never read as template text again. A missing input is an error, never an
empty string.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts.chat import ChatMessage, Image, Text
from shared.errors import Invalid

_PLACEHOLDER = re.compile(
    r"\{\{\s*(?:"
    r"(?P<name>[a-zA-Z_\d.\[\]]+)"
    r"|(?P<tool>[a-zA-Z_\-\d]+)\((?:[a-zA-Z_\-\d,.\s]|\"[^\"]*\")+\)"
    r")\s*\}\}"
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


class _Population:
    """One request's pass over its template; collects what is missing in all of it."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._inputs = inputs
        self._missing: set[str] = set()

    def fill(self, template: str) -> str:
        return _PLACEHOLDER.sub(self._replace, template)

    def _replace(self, match: re.Match[str]) -> str:
        if (tool := match["tool"]) is not None:
            raise Invalid(f"The template calls the tool {tool!r} in {match[0]!r}, but there is no tool of that name.")
        value = _look_up(match["name"], self._inputs)
        if value is _MISSING or value is None:
            self._missing.add(match["name"])
            return ""
        return _text(value)

    def finish(self) -> None:
        if self._missing:
            raise Invalid(f"Prompt requires inputs for the following variables: {sorted(self._missing)}")


def populate(template: str, inputs: Mapping[str, Any]) -> str:
    """The prompt. Errors: Invalid (missing inputs, unknown tool)."""
    population = _Population(inputs)
    text = population.fill(template)
    population.finish()
    return text


def populate_chat(template: Sequence[ChatMessage], inputs: Mapping[str, Any]) -> list[ChatMessage]:
    """The messages of a chat template; those without content pass through. Errors: Invalid, as `populate`."""
    population = _Population(inputs)

    def part(given: Text | Image) -> Text | Image:
        return Text(text=population.fill(given.text)) if isinstance(given, Text) else given

    messages = []
    for message in template:
        content = message.content
        if isinstance(content, str):
            message = message.model_copy(update={"content": population.fill(content)})  # noqa: PLW2901
        elif content is not None:
            message = message.model_copy(update={"content": [part(given) for given in content]})  # noqa: PLW2901
        messages.append(message)
    population.finish()
    return messages
