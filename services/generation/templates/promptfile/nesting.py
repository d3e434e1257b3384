"""Finds the tags that are text because they stand in an element of a message: `<document><text>…</text></document>`.

An element is whatever has a tag at its beginning and one at its end, of the seven names or not. A tag alone, as in
"a <b> c", is none. Of elements that overlap, those of the seven names count.
"""

import re

from services.generation.templates.promptfile.texts import TAGS

_KNOWN_NAME = rf"(?:{TAGS})(?=[ \t\r\n>]|/>)"
_KNOWN = rf"""({_KNOWN_NAME})(?:[^<>"']++|"[^"]*+"|'[^']*+')*+"""
_OTHER = rf"""(?!{_KNOWN_NAME})([A-Za-z_][\w.:-]*+)(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+"""
_KNOWN_TAG = re.compile(rf"<(/?){_KNOWN}>")
"""A tag of the seven names."""
_ANY_TAG = re.compile(rf"<(/?)(?:{_KNOWN}|{_OTHER})>")
"""The values of a tag of another name have no `<`: it may not swallow a tag of the seven, which would be text."""


class _OpenElements:
    """The elements that have begun and not ended, in their order."""

    def __init__(self) -> None:
        self._open: list[tuple[str, int]] = []
        """Name and what `open` was given."""
        self._positions: dict[str, list[int]] = {}

    def open(self, name: str, value: int) -> None:
        self._positions.setdefault(name, []).append(len(self._open))
        self._open.append((name, value))

    def close(self, name: str, barrier: int = 0) -> tuple[int, int] | None:
        """End the innermost element of this name and those in it that have no end; return its position and value.

        None if there is none, or only before the position `barrier`.
        """
        positions = self._positions.get(name)
        if not positions or positions[-1] < barrier:
            return None
        position = positions[-1]
        value = self._open[position][1]
        while len(self._open) > position:
            self._positions[self._open.pop()[0]].pop()
        return position, value

    def __len__(self) -> int:
        return len(self._open)


def find_nested_tags(body: str, start: int, message: str) -> frozenset[int]:
    """Return the offsets of the tags of the seven names that are text, from `start` to the end of the message.

    `start` is where the tag ends that opens the message of the role `message`. Takes time in proportion to its length.
    """
    element_tags, end = _match_known(body, start, message)
    elements = _OpenElements()
    barriers = [0]
    """Positions above the open elements of the seven names: another element does not end one that began below."""
    tags: list[int] = []
    """Tags of the seven names that are in none of the elements that have ended."""
    nested: list[int] = []
    for tag in _ANY_TAG.finditer(body, start, end):
        offset, name, known = tag.start(), tag[2] or tag[3], tag[2] is not None
        is_element = not known or offset in element_tags
        closed = elements.close(name, 0 if known else barriers[-1]) if tag[1] and is_element else None
        if closed is not None:
            position, first = closed
            nested.extend(tags[first:])
            del tags[first:]
            while barriers[-1] > position:
                barriers.pop()
        if known:
            tags.append(offset)
        if not tag[1] and is_element and not tag[0].endswith("/>"):
            elements.open(name, len(tags))
            if known:
                barriers.append(len(elements))
    return frozenset(nested)


def _match_known(body: str, start: int, message: str) -> tuple[set[int], int]:
    """Return the offsets of the tags of the seven names that begin and end an element, and where the message ends."""
    elements = _OpenElements()
    elements.open(message, -1)
    matched: set[int] = set()
    for tag in _KNOWN_TAG.finditer(body, start):
        if not tag[1]:
            if not tag[0].endswith("/>"):
                elements.open(tag[2], tag.start())
        elif (closed := elements.close(tag[2])) is not None:
            position, opening = closed
            if position == 0:
                return matched, tag.start()
            matched |= {opening, tag.start()}
    return matched, len(body)
