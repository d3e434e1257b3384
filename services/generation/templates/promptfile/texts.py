"""Texts between tags and in attributes: indented and escaped so that each reads back as exactly itself.

Only six tags and a twin mean something, so only what looks like one of them is escaped; every other `<` and `&` stands
as it is. Both escapes work the same way: what would be read as an escape gets one more `amp;`.
"""

import re

TAGS = "system|user|assistant|tool_call|tool|text|image"
SPACE = " \t\r\n"

_TAG = rf"/?(?:{TAGS})(?:[ \t\r\n>]|/>|\Z)"
_OPENS = re.compile(rf"<(?={_TAG})|&(?=(?:amp;)*lt;{_TAG})")
_ESCAPED_OPENS = re.compile(rf"&((?:amp;)*)lt;(?={_TAG})")

_SIGNS = {"quot": '"', "#9": "\t", "#10": "\n", "#13": "\r"}
_NAMES = {sign: name for name, sign in _SIGNS.items()}
_IN_ATTRIBUTE = re.compile(r'["\t\r\n]|&(?=(?:amp;)*(?:quot|#9|#10|#13);)')
_ESCAPED_IN_ATTRIBUTE = re.compile(r"&((?:amp;)*)(quot|#9|#10|#13);")
_AMP = len("amp;")


def escaped(text: str) -> str:
    """Text without tags: `<user>` is written `&lt;user>`."""
    return _OPENS.sub(lambda found: "&lt;" if found[0] == "<" else "&amp;", text)


def unescaped(text: str) -> str:
    """The opposite of `escaped`."""
    return _ESCAPED_OPENS.sub(lambda found: f"&{found[1][_AMP:]}lt;" if found[1] else "<", text)


def quoted(value: str) -> str:
    """The value of an attribute, on one line and in quotes."""
    return '"' + _IN_ATTRIBUTE.sub(lambda found: "&amp;" if found[0] == "&" else f"&{_NAMES[found[0]]};", value) + '"'


def unquoted(value: str) -> str:
    """The opposite of `quoted`; `value` still has its quotes, double or single."""

    def sign(found: re.Match[str]) -> str:
        return f"&{found[1][_AMP:]}{found[2]};" if found[1] else _SIGNS[found[2]]

    return _ESCAPED_IN_ATTRIBUTE.sub(sign, value[1:-1])


def indented(text: str, margin: str) -> str:
    """Every line that has something in it, moved to the right."""
    return "\n".join(margin + line if line else line for line in text.split("\n"))


def laid_out(raw: str) -> str:
    """A text as a person wrote it: line ends unified, the common indentation gone, trimmed."""
    lines = raw.replace("\r\n", "\n").split("\n")
    margin = _common([line[: len(line) - len(line.lstrip(" \t"))] for line in lines if line.strip(SPACE)])
    return "\n".join(line[margin:] for line in lines).strip(SPACE)


def _common(margins: list[str]) -> int:
    """How many characters all of them begin with."""
    if not margins:
        return 0
    least, greatest = min(margins), max(margins)
    pairs = enumerate(zip(least, greatest, strict=False))
    return next((at for at, (one, other) in pairs if one != other), len(least))
