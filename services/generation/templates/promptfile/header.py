"""The header of a `.prompt` file: YAML, written as one line a key, read without YAML's traps.

What the scalars mean is decided here and not by PyYAML, by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/
§10.3, read 2026-11): `no` and `2024-01-01` are texts, `1e5` is a number, and every JSON value means what it means in
JSON. Aliases, anchors and tags are refused: a few lines of them can stand for gigabytes.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from shared.errors import Invalid

_DEEPEST = 128
"""Levels of nesting, as many as a request body may have."""
_MOST_NODES = 200_000
"""Values and keys in one header."""
_LONGEST_KEY = 1000
"""YAML takes a key for one up to 1024 characters; a longer one is announced by `?`."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON leaves as it is and YAML does not take, or takes for the end of a line."""
_PLAIN = re.compile(r"[A-Za-z][\w./@+-]*(?:[: ][\w./@+-]+)*", re.ASCII)
_WORDS = _NULL | set(_BOOLEAN) | {"yes", "no", "on", "off", "y", "n"}
"""Not written without quotes: some readers take the last ones for booleans."""


def refused(line: int, message: str) -> Invalid:
    """What is wrong with a file, and where. Lines count from 1."""
    return Invalid(f"Line {line} of the .prompt file: {message}")


def write(values: Mapping[str, Any]) -> str:
    """The lines of a header; texts without quotes where that is safe, everything else as JSON."""
    return "".join(f"{key}: {_top(value)}\n" for key, value in values.items())


def _top(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return _flow(value)


def _flow(value: Any) -> str:  # noqa: ANN401 - any JSON
    """JSON that YAML reads as the same value."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_key(key)}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case str():
            return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
        case _:
            return json.dumps(value, allow_nan=False)


def _key(key: str) -> str:
    written = _flow(key)
    return f"? {written}" if len(written) > _LONGEST_KEY else written


def read(text: str, first_line: int) -> tuple[dict[str, Any], dict[str, int]]:
    """The values of a header, and the line of each of its keys. Errors: Invalid."""
    document = _Document(first_line)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            document.take(event)
    except yaml.MarkedYAMLError as error:
        last = max(text.count("\n") - 1, 0)
        line = first_line + min(_lines_above(error.problem_mark or error.context_mark), last)
        raise refused(line, f"this is not YAML: {error.problem}. Put texts with special signs in quotes.") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise Invalid(
            "The header of the .prompt file has characters that YAML does not take; write them as \\uXXXX in quotes."
        ) from error
    return document.values(), document.lines


def _lines_above(mark: Any) -> int:  # noqa: ANN401 - one of two classes of marks
    return 0 if mark is None else int(mark.line)


class _Document:
    """Builds values from the events of a parser, so that nothing is built before it is known to be harmless."""

    def __init__(self, first_line: int) -> None:
        self.lines: dict[str, int] = {}
        self._first_line = first_line
        self._nodes = 0
        self._documents = 0
        self._root: Any = None
        self._open: list[dict[str, Any] | list[Any]] = []
        self._keys: list[str | None] = []
        """Of each open mapping the key whose value is awaited; of a list None."""

    def values(self) -> dict[str, Any]:
        """The mapping at the top. Errors: Invalid."""
        if not isinstance(self._root, dict):
            raise refused(self._first_line, "the header is not made of lines like model: gpt-4.")
        return self._root

    def take(self, event: yaml.Event) -> None:
        """One event of the parser. Errors: Invalid."""
        line = self._first_line + _lines_above(event.start_mark)
        if isinstance(event, yaml.NodeEvent):
            self._check(event, line)
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise refused(line, "a second YAML document begins in the header; leave one.")
            case yaml.ScalarEvent():
                self._put(event, line)
            case yaml.MappingStartEvent():
                self._enter({}, line)
            case yaml.SequenceStartEvent():
                self._enter([], line)
            case yaml.CollectionEndEvent():
                self._open.pop()
                self._keys.pop()
            case _:
                pass

    def _check(self, event: yaml.NodeEvent, line: int) -> None:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise refused(line, f"the header has more than {_MOST_NODES} values.")
        if event.anchor is not None:
            raise refused(line, "anchors and aliases (&, *) are not taken; write the value out, or put it in quotes.")
        if getattr(event, "tag", None) is not None:
            raise refused(line, "YAML tags (!) are not taken; write the plain value, or put it in quotes.")

    def _put(self, event: yaml.ScalarEvent, line: int) -> None:
        if self._open and isinstance(self._open[-1], dict) and self._keys[-1] is None:
            self._expect(event.value, line)
        else:
            self._place(event.value if event.style else _plain(event.value, line), line)

    def _expect(self, key: str, line: int) -> None:
        if key in self._open[-1]:
            raise refused(line, f"the key {key[:80]!r} stands here a second time; leave one.")
        self._keys[-1] = key
        if len(self._open) == 1:
            self.lines[key] = line

    def _enter(self, collection: dict[str, Any] | list[Any], line: int) -> None:
        if len(self._open) >= _DEEPEST:
            raise refused(line, f"nested more than {_DEEPEST} levels deep.")
        self._place(collection, line)
        self._open.append(collection)
        self._keys.append(None)

    def _place(self, value: Any, line: int) -> None:  # noqa: ANN401 - any JSON
        if not self._open:
            self._root = value
        elif isinstance(parent := self._open[-1], list):
            parent.append(value)
        else:
            key = self._keys[-1]
            if key is None:
                raise refused(line, "a list or mapping cannot be a key; put braces and brackets of a text in quotes.")
            parent[key] = value
            self._keys[-1] = None


def _plain(text: str, line: int) -> Any:  # noqa: ANN401 - any JSON
    """What a scalar without quotes means."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    try:
        if _INTEGER.fullmatch(text):
            return int(text)
        number = float(text) if _FLOAT.fullmatch(text) else None
    except ValueError as error:
        raise refused(line, "this number has too many digits.") from error
    if number is None:
        return text
    if math.isinf(number):
        raise refused(line, "this number is too large to be kept; JSON has no infinity.")
    return number
