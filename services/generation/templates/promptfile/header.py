"""Writes and reads the header of a `.prompt` file: YAML, written as one line per key.

PyYAML only parses; scalars are resolved here, by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/ §10.3, read
2026-11): `no` and `2024-01-01` are texts, `1e5` is a number, and every JSON value is what it is in JSON. Aliases,
anchors and tags are refused: a few lines of them can stand for gigabytes.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from shared.errors import Invalid

_MAX_DEPTH = 128
"""Levels of nesting, as many as a request body may have."""
_MAX_NODES = 200_000
"""Values and keys in one header."""
_MAX_SIMPLE_KEY = 1000
"""Characters. YAML recognises simple keys of up to 1024; a longer key is written after `?`."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Characters that JSON does not escape and YAML does not accept, or reads as the end of a line."""
_UNQUOTED_TEXT = re.compile(r"[A-Za-z][\w./@+-]*(?:[: ][\w./@+-]+)*", re.ASCII)
_RESERVED_WORDS = _NULL | set(_BOOLEAN) | {"yes", "no", "on", "off", "y", "n"}
"""Texts that are always written in quotes: readers of YAML 1.1 take the last ones for booleans."""


def line_error(line: int, message: str) -> Invalid:
    """Return the error for a line of the file, counted from 1."""
    return Invalid(f"Line {line} of the .prompt file: {message}")


def write(values: Mapping[str, Any]) -> str:
    """Return the lines of a header: texts without quotes where that is safe, everything else as JSON."""
    return "".join(f"{key}: {_write_value(value)}\n" for key, value in values.items())


def _write_value(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, str) and _UNQUOTED_TEXT.fullmatch(value) and value.lower() not in _RESERVED_WORDS:
        return value
    return _write_json(value)


def _write_json(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return JSON that YAML reads as the same value."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_write_key(key)}: {_write_json(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_write_json, value)) + "]"
        case str():
            return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
        case _:
            return json.dumps(value, allow_nan=False)


def _write_key(key: str) -> str:
    quoted = _write_json(key)
    return f"? {quoted}" if len(quoted) > _MAX_SIMPLE_KEY else quoted


def read(text: str, first_line: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the values of a header and the line of each top-level key; its first line is `first_line` of the file.

    Raises Invalid, naming the line.
    """
    document = _DocumentBuilder(first_line)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            document.add_event(event)
    except yaml.MarkedYAMLError as error:
        last = max(text.count("\n") - 1, 0)
        line = first_line + min(_line_index(error.problem_mark or error.context_mark), last)
        raise line_error(line, f"this is not YAML: {error.problem}. Put texts with special signs in quotes.") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise Invalid(
            "The header of the .prompt file has characters that YAML does not take; write them as \\uXXXX in quotes."
        ) from error
    return document.values(), document.lines


def _line_index(mark: Any) -> int:  # noqa: ANN401 - one of two classes of marks
    """Return the line of a mark, counted from 0."""
    return 0 if mark is None else int(mark.line)


class _DocumentBuilder:
    """Builds values from PyYAML's parser events, and refuses an event before anything is built from it."""

    def __init__(self, first_line: int) -> None:
        self.lines: dict[str, int] = {}
        self._first_line = first_line
        self._nodes = 0
        self._documents = 0
        self._root: Any = None
        self._open: list[dict[str, Any] | list[Any]] = []
        """The collections the next event is inside, outermost first."""
        self._keys: list[str | None] = []
        """For each of `_open`: the key whose value comes next; None before a key, and in a list."""

    def values(self) -> dict[str, Any]:
        """Return the mapping at the top. Raises Invalid if there is another value."""
        if not isinstance(self._root, dict):
            raise line_error(self._first_line, "the header is not made of lines like model: gpt-4.")
        return self._root

    def add_event(self, event: yaml.Event) -> None:
        """Add the parser's next event. Raises Invalid."""
        line = self._first_line + _line_index(event.start_mark)
        if isinstance(event, yaml.NodeEvent):
            self._check(event, line)
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise line_error(line, "a second YAML document begins in the header; leave one.")
            case yaml.ScalarEvent():
                self._add_scalar(event, line)
            case yaml.MappingStartEvent():
                self._open_collection({}, line)
            case yaml.SequenceStartEvent():
                self._open_collection([], line)
            case yaml.CollectionEndEvent():
                self._open.pop()
                self._keys.pop()
            case _:
                pass

    def _check(self, event: yaml.NodeEvent, line: int) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise line_error(line, f"the header has more than {_MAX_NODES} values.")
        if event.anchor is not None:
            raise line_error(
                line, "anchors and aliases (&, *) are not taken; write the value out, or put it in quotes."
            )
        if getattr(event, "tag", None) is not None:
            raise line_error(line, "YAML tags (!) are not taken; write the plain value, or put it in quotes.")

    def _add_scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if self._open and isinstance(self._open[-1], dict) and self._keys[-1] is None:
            self._set_key(event.value, line)
        else:
            self._add_value(event.value if event.style else _resolve_scalar(event.value, line), line)

    def _set_key(self, key: str, line: int) -> None:
        if key in self._open[-1]:
            raise line_error(line, f"the key {key[:80]!r} stands here a second time; leave one.")
        self._keys[-1] = key
        if len(self._open) == 1:
            self.lines[key] = line

    def _open_collection(self, collection: dict[str, Any] | list[Any], line: int) -> None:
        if len(self._open) >= _MAX_DEPTH:
            raise line_error(line, f"nested more than {_MAX_DEPTH} levels deep.")
        self._add_value(collection, line)
        self._open.append(collection)
        self._keys.append(None)

    def _add_value(self, value: Any, line: int) -> None:  # noqa: ANN401 - any JSON
        if not self._open:
            self._root = value
        elif isinstance(parent := self._open[-1], list):
            parent.append(value)
        else:
            key = self._keys[-1]
            if key is None:
                raise line_error(
                    line, "a list or mapping cannot be a key; put braces and brackets of a text in quotes."
                )
            parent[key] = value
            self._keys[-1] = None


def _resolve_scalar(text: str, line: int) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of a scalar without quotes: null, a boolean, a number, or the text. Raises Invalid."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    try:
        if _INTEGER.fullmatch(text):
            return int(text)
        number = float(text) if _FLOAT.fullmatch(text) else None
    except ValueError as error:
        raise line_error(line, "this number has too many digits.") from error
    if number is None:
        return text
    if math.isinf(number):
        raise line_error(line, "this number is too large to be kept; JSON has no infinity.")
    return number
