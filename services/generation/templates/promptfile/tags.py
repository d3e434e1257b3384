"""A scanner for the tags in the body of a chat file: returns one tag after the other, with the text before each.

It passes over the text from left to right: a tag that cannot be parsed is an error. Tags that stand in another element
inside their message are text (nesting.py).
"""

import re
from collections.abc import Collection
from typing import Any, NamedTuple, NoReturn

from services.generation.templates.promptfile.header import line_error
from services.generation.templates.promptfile.nesting import find_nested_tags
from services.generation.templates.promptfile.texts import TAGS, WHITESPACE, dedent, unescape, unquote

EXACT = "exact"

_TAG = re.compile(rf"<(/?)({TAGS})(?=[ \t\r\n>]|/>)")
_ATTRIBUTE = re.compile(r"""[ \t\r\n]+([a-z_]+)[ \t\r\n]*=[ \t\r\n]*("[^"]*"|'[^']*')""")
_TAG_END = re.compile(r"[ \t\r\n]*(/?)>")

_ATTRIBUTE_VALUES: dict[str, dict[str, Any]] = {
    "whitespace": {EXACT: EXACT},
    "content": {"null": None, "[]": []},
    "tool_calls": {"[]": []},
}
"""For attributes that take certain values only: what each value stands for."""


class Tag(NamedTuple):
    """`<name …>`, `<name … />` or `</name>`."""

    name: str
    closes: bool
    empty: bool
    """It closes itself: `<name … />`."""
    attributes: dict[str, Any]
    start: int
    """Offset in the body."""

    def __str__(self) -> str:
        return f"</{self.name}>" if self.closes else f"<{self.name}>"

    def decode(self, raw: str) -> str:
        """Return the text that `raw`, the file's text after this tag, stands for."""
        return unescape(raw if "whitespace" in self.attributes else dedent(raw))


class TagScanner:
    """Scans a body, whose first line is line `first_line` of its file."""

    def __init__(self, body: str, first_line: int) -> None:
        self._body = body
        self._first_line = first_line
        self._offset = 0
        self._text_offset = 0
        """Where the text before the latest tag begins."""
        self._nested: frozenset[int] = frozenset()
        """Offsets of the tags in the present message that are text."""

    def enter_message(self, tag: Tag) -> None:
        """Find out which tags up to the end of the message that `tag`, the latest, opens are text."""
        self._nested = find_nested_tags(self._body, self._offset, tag.name)

    def next(self) -> tuple[str, Tag | None]:
        """Return the text before the next tag, and the tag; None after the last. Raises Invalid."""
        start = self._text_offset = self._offset
        opening = _TAG.search(self._body, start)
        while opening is not None and opening.start() in self._nested:
            opening = _TAG.search(self._body, opening.end())
        if opening is None:
            self._offset = len(self._body)
            return self._body[start:], None
        self._offset = opening.end()
        closes = bool(opening[1])
        attributes = {} if closes else self._attributes(opening)
        end = _TAG_END.match(self._body, self._offset)
        if end is None or (closes and end[1]):
            self.fail(
                opening.start(),
                f'the tag {opening[0]} cannot be read; write attributes as name="value" and close it with >. '
                f"If it is meant as text, write &lt;{opening[0][1:]}",
            )
        self._offset = end.end()
        tag = Tag(opening[2], closes=closes, empty=bool(end[1]), attributes=attributes, start=opening.start())
        return self._body[start : tag.start], tag

    def _attributes(self, opening: re.Match[str]) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        while attribute := _ATTRIBUTE.match(self._body, self._offset):
            self._offset = attribute.end()
            name, value = attribute[1], unquote(attribute[2])
            allowed = _ATTRIBUTE_VALUES.get(name, {value: value})
            if name in attributes or value not in allowed:
                self.fail(opening.start(), f"the attribute {name} of {opening[0]}> is wrong, or stands there twice")
            attributes[name] = allowed[value]
        return attributes

    def check_attributes(self, tag: Tag, allowed: Collection[str], required: Collection[str]) -> None:
        """Raise Invalid if the tag has an attribute that is not allowed, or lacks a required one."""
        for name in tag.attributes:
            if name not in allowed:
                self.fail(tag.start, f"{tag} has no attribute {name}; it takes {', '.join(sorted(allowed))}")
        for name in required:
            if name not in tag.attributes:
                self.fail(tag.start, f'{tag} needs {name}="..."')

    def check_blank(self, text: str, message: str) -> None:
        """Raise Invalid if the text before the latest tag is not white space; `message` says what to do with it."""
        if stripped := text.lstrip(WHITESPACE):
            self.fail(self._text_offset + len(text) - len(stripped), f"text {message}")

    def fail_unclosed(self, tag: Tag, other: Tag | None) -> NoReturn:
        """Raise Invalid: where `tag` should be closed, there is another tag, or the end of the body (None)."""
        where = "before the end" if other is None else f"before {other} in line {self._line(other.start)}"
        remedy = ". If a tag in it is meant as text, write &lt; for its <"
        if other is not None:
            remedy = f". If that is meant as text, write &lt;{str(other)[1:]}"
        self.fail(tag.start, f"{tag} is not closed {where}; write </{tag.name}>{remedy}")

    def fail(self, offset: int, message: str) -> NoReturn:
        """Raise Invalid for the line at this offset of the body."""
        raise line_error(self._line(offset), f"{message}.")

    def _line(self, offset: int) -> int:
        return self._first_line + self._body.count("\n", 0, offset)


def starts_with_tag(body: str, names: Collection[str]) -> bool:
    """Return whether a body begins with the opening tag of one of these names, white space aside."""
    opening = _TAG.match(body.lstrip(WHITESPACE))
    return opening is not None and not opening[1] and opening[2] in names
