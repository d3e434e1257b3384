"""Indents and escapes the texts between tags and in attributes, so that each is read back exactly.

Only seven tag names have a meaning, so only what looks like one of these tags is escaped; every other `<` and `&` stays
as it is. A text that would be read as an escape gets one more `amp;`.
"""

import re

TAGS = "system|user|assistant|tool_call|tool|text|image"
WHITESPACE = " \t\r\n"

_TAG = rf"/?(?:{TAGS})(?:[ \t\r\n>]|/>|\Z)"
_TAG_OPENING = re.compile(rf"<(?={_TAG})|&(?=(?:amp;)*lt;{_TAG})")
_ESCAPED_TAG_OPENING = re.compile(rf"&((?:amp;)*)lt;(?={_TAG})")

_ENTITIES = {"quot": '"', "#9": "\t", "#10": "\n", "#13": "\r"}
_ENTITY_NAMES = {character: name for name, character in _ENTITIES.items()}
_TO_ESCAPE_IN_ATTRIBUTE = re.compile(r'["\t\r\n]|&(?=(?:amp;)*(?:quot|#9|#10|#13);)')
_ESCAPED_IN_ATTRIBUTE = re.compile(r"&((?:amp;)*)(quot|#9|#10|#13);")
_AMP_LENGTH = len("amp;")


def escape(text: str) -> str:
    """Return a text in which nothing is read as a tag: `<user>` becomes `&lt;user>`."""
    return _TAG_OPENING.sub(lambda match: "&lt;" if match[0] == "<" else "&amp;", text)


def unescape(text: str) -> str:
    """Return the text that `escape` was given."""
    return _ESCAPED_TAG_OPENING.sub(lambda match: f"&{match[1][_AMP_LENGTH:]}lt;" if match[1] else "<", text)


def quote(value: str) -> str:
    """Return the value of an attribute in double quotes and on one line."""

    def entity(match: re.Match[str]) -> str:
        return "&amp;" if match[0] == "&" else f"&{_ENTITY_NAMES[match[0]]};"

    return f'"{_TO_ESCAPE_IN_ATTRIBUTE.sub(entity, value)}"'


def unquote(quoted: str) -> str:
    """Return the value that `quote` was given; the quotes around it may be double or single."""

    def character(match: re.Match[str]) -> str:
        return f"&{match[1][_AMP_LENGTH:]}{match[2]};" if match[1] else _ENTITIES[match[2]]

    return _ESCAPED_IN_ATTRIBUTE.sub(character, quoted[1:-1])


def indent(text: str, margin: str) -> str:
    """Return the text with `margin` before every line that is not empty."""
    return "\n".join(margin + line if line else line for line in text.split("\n"))


def dedent(text: str) -> str:
    """Return the text with unified line ends, without the indentation its lines share, and stripped."""
    lines = text.replace("\r\n", "\n").split("\n")
    margins = [line[: len(line) - len(line.lstrip(" \t"))] for line in lines if line.strip(WHITESPACE)]
    shared = _common_prefix_length(margins)
    return "\n".join(line[shared:] for line in lines).strip(WHITESPACE)


def _common_prefix_length(texts: list[str]) -> int:
    if not texts:
        return 0
    least, greatest = min(texts), max(texts)
    pairs = enumerate(zip(least, greatest, strict=False))
    return next((index for index, (one, other) in pairs if one != other), len(least))
