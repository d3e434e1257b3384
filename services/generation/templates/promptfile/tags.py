"""The tags in the body of a chat file, one after the other, with the text before each.

From left to right once, whatever the text: a tag that cannot be read ends the reading.
"""

import re
from collections.abc import Collection
from typing import Any, NamedTuple, NoReturn

from services.generation.templates.promptfile.header import refused
from services.generation.templates.promptfile.texts import SPACE, TAGS, laid_out, unescaped, unquoted

EXACT = "exact"

_TAG = re.compile(rf"<(/?)({TAGS})(?=[ \t\r\n>]|/>)")
_ATTRIBUTE = re.compile(r"""[ \t\r\n]+([a-z_]+)[ \t\r\n]*=[ \t\r\n]*("[^"]*"|'[^']*')""")
_TAG_END = re.compile(r"[ \t\r\n]*(/?)>")

_LITERAL: dict[str, dict[str, Any]] = {
    "whitespace": {EXACT: EXACT},
    "content": {"null": None, "[]": []},
    "tool_calls": {"[]": []},
}
"""Attributes of a closed list of values, and what these mean."""


class Tag(NamedTuple):
    """`<name …>`, `<name … />` or `</name>`."""

    name: str
    closes: bool
    empty: bool
    """`<name … />`"""
    attributes: dict[str, Any]
    start: int
    """Where it begins in the body."""

    def __str__(self) -> str:
        return f"</{self.name}>" if self.closes else f"<{self.name}>"

    def text(self, raw: str) -> str:
        """The text `raw` that follows this tag, as it is meant."""
        return unescaped(raw if "whitespace" in self.attributes else laid_out(raw))


class Tags:
    """Reads a body; `_at` is where it has come to."""

    def __init__(self, body: str, first_line: int) -> None:
        self._body = body
        self._first_line = first_line
        self._at = 0
        self._text_at = 0
        """Where the text began that stands before the last tag."""

    def next(self) -> tuple[str, Tag | None]:
        """The text before the next tag, and the tag; None after the last. Errors: Invalid."""
        start = self._text_at = self._at
        found = _TAG.search(self._body, start)
        if found is None:
            self._at = len(self._body)
            return self._body[start:], None
        self._at = found.end()
        closes = bool(found[1])
        attributes = {} if closes else self._attributes(found)
        end = _TAG_END.match(self._body, self._at)
        if end is None or (closes and end[1]):
            self.refuse(
                found.start(),
                f'the tag {found[0]} cannot be read; write attributes as name="value" and close it with >. '
                f"If it is meant as text, write &lt;{found[0][1:]}",
            )
        self._at = end.end()
        tag = Tag(found[2], closes=closes, empty=bool(end[1]), attributes=attributes, start=found.start())
        return self._body[start : tag.start], tag

    def _attributes(self, tag: re.Match[str]) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        while attribute := _ATTRIBUTE.match(self._body, self._at):
            self._at = attribute.end()
            name, value = attribute[1], unquoted(attribute[2])
            meanings = _LITERAL.get(name, {value: value})
            if name in attributes or value not in meanings:
                self.refuse(tag.start(), f"the attribute {name} of {tag[0]}> is wrong, or stands there twice")
            attributes[name] = meanings[value]
        return attributes

    def check(self, tag: Tag, allowed: Collection[str], needed: Collection[str]) -> None:
        """The attributes of a tag are those it may have. Errors: Invalid."""
        for name in tag.attributes:
            if name not in allowed:
                self.refuse(tag.start, f"{tag} has no attribute {name}; it takes {', '.join(sorted(allowed))}")
        for name in needed:
            if name not in tag.attributes:
                self.refuse(tag.start, f'{tag} needs {name}="..."')

    def check_blank(self, text: str, otherwise: str) -> None:
        """Before the last tag stands nothing but white space. Errors: Invalid."""
        if stripped := text.lstrip(SPACE):
            self.refuse(self._text_at + len(text) - len(stripped), f"text {otherwise}")

    def refuse_unclosed(self, tag: Tag, met: Tag | None) -> NoReturn:
        """Another tag was met, or the end, where `tag` should have been closed."""
        where = "before the end" if met is None else f"before {met} in line {self._line(met.start)}"
        escape = "" if met is None else f". If that is meant as text, write &lt;{str(met)[1:]}"
        self.refuse(tag.start, f"{tag} is not closed {where}; write </{tag.name}>{escape}")

    def refuse(self, position: int, message: str) -> NoReturn:
        """Errors: Invalid, always."""
        raise refused(self._line(position), f"{message}.")

    def _line(self, position: int) -> int:
        return self._first_line + self._body.count("\n", 0, position)


def begins(body: str, names: Collection[str]) -> bool:
    """Whether a body begins with the tag of one of these names."""
    found = _TAG.match(body.lstrip(SPACE))
    return found is not None and not found[1] and found[2] in names
