"""Says what is wrong with a body that is no JSON of ours, and where: line and column, and the path of the value."""

import json
import math
import re
from typing import Any

from services.gateway.errors import InvalidJson

Path = list[str | int]
"""Keys and indices from the top of the body."""

_MAX_SCANNED_BYTES = 64 * 1024
"""Of a body that cannot be parsed: an error beyond them has a line and a column, but no path."""
_MAX_SCANNED_LINES = 10_000
_MAX_PATH_LENGTH = 8
_MAX_KEY_CHARACTERS = 60
_PARSER_MESSAGE = re.compile(r"(.*) at line (\d+) column (\d+)")
_TOKEN = re.compile(r'[\[\]{},]|"([^"\\]*(?:\\.[^"\\]*)*)("?)', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}.{0,7}\Z", re.DOTALL)
_REASONS = {
    "recursion limit exceeded": "nested more than 128 levels deep; send less deep values, or JSON as a string",
    "number out of range": "a number has too many digits to be kept; send it as a string",
    "invalid unicode code point": "these bytes are not UTF-8; JSON is sent in UTF-8",
    "EOF while parsing": "the body ends in the middle of its JSON",
    "expected ident": "this is not a JSON value",
    "expected value": "a JSON value is expected here",
}
"""What to say instead of the parser's message that begins with the key."""
_LONE_SURROGATE = (
    "half of a surrogate pair (one of \\ud800 to \\udfff alone) is no character; send both halves, or \\ufffd"
)


def _error(reason: str, path: Path, place: str = "") -> InvalidJson:
    """Return the error; `place` stands before the reason, by default the path."""
    place = place or path_text(path)
    return InvalidJson(f"{place}: {reason}." if place else f"{reason}.", [_cut(key) for key in path[:_MAX_PATH_LENGTH]])


def path_text(path: Path) -> str:
    """Return a path as text, `inputs.a[2].price`; long keys and long paths are cut."""
    text = ""
    for key in path[:_MAX_PATH_LENGTH]:
        if isinstance(key, str) and key.isidentifier():
            text += f".{_cut(key)}" if text else f"{_cut(key)}"
        else:
            text += f"[{json.dumps(_cut(key), ensure_ascii=False)}]"
    return text + ("…" if len(path) > _MAX_PATH_LENGTH else "")


def _cut(key: str | int) -> str | int:
    return f"{key[:_MAX_KEY_CHARACTERS]}…" if isinstance(key, str) and len(key) > _MAX_KEY_CHARACTERS else key


def syntax_error(message: str, raw: bytes | bytearray) -> InvalidJson:
    """Return the error for a body that pydantic's parser refused with `message`, which ends in line and column."""
    match = _PARSER_MESSAGE.fullmatch(message)
    if match is None:
        return _error(message, [])
    reason, line, column = match[1], int(match[2]), int(match[3])
    if b"\x00" in raw[:4]:  # JSON begins with two ASCII characters at least, in UTF-8 without a zero byte
        return _error("the body is not UTF-8 (it looks like UTF-16 or UTF-32); JSON is sent in UTF-8", [])
    if line > _MAX_SCANNED_LINES:
        return _error(_reason(reason), [], f"line {line} column {column}")
    line_start = _line_start(raw, line)
    end = line_start + max(column, 1)
    if "surrogate" in reason or ("hex escape" in reason and _SURROGATE.search(raw[max(0, end - 14) : end])):
        reason = _LONE_SURROGATE
    path = _path_at(raw[: end - 1].decode(errors="replace")) if end <= _MAX_SCANNED_BYTES else []
    column = len(raw[line_start : end - 1].decode(errors="replace")) + 1
    value = f" ({path_text(path)})" if path else ""
    return _error(_reason(reason), path, f"line {line} column {column}{value}")


def _reason(message: str) -> str:
    return next((text for beginning, text in _REASONS.items() if message.startswith(beginning)), message)


def _line_start(raw: bytes | bytearray, line: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = raw.index(b"\n", start) + 1
    return start


def _path_at(text: str) -> Path:
    """Return the path of the value at the end of `text`, the beginning of a JSON text."""
    path: list[str | int | None] = []
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "[":
                path.append(0)
            case "{":
                path.append(None)  # its key comes next
            case "]" | "}":
                path = path[:-1]
            case ",":
                if path:
                    path[-1] = path[-1] + 1 if isinstance(path[-1], int) else None
            case _ if path and path[-1] is None and token[2]:
                path[-1] = _unescaped(token[1])
    return [key for key in path if key is not None]


def _unescaped(key: str) -> str:
    try:
        unescaped: str = json.loads(f'"{key}"', strict=False)
    except ValueError:
        return key
    return unescaped.encode(errors="replace").decode()


def non_finite_error(content: Any) -> InvalidJson:  # noqa: ANN401 - any JSON
    """Return the error for the first number in `content` that is not finite: NaN, Infinity, or one like 1e999."""
    path, number = _find_non_finite(content) or ([], math.nan)
    if math.isnan(number):
        return _error("NaN is no JSON value; send null", path)
    return _error("the number is infinite or too large to be kept (about 1.8e308 is the largest); send null", path)


def depth_error(content: Any, max_depth: int) -> InvalidJson:  # noqa: ANN401 - any JSON
    """Return the error for a `content` with more than `max_depth` levels."""
    path = _find_deeper(content, max_depth) or []
    return _error(f"nested more than {max_depth} levels deep; send less deep values, or JSON as a string", path)


def _items(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _find_non_finite(value: Any) -> tuple[Path, float] | None:  # noqa: ANN401 - any JSON
    if isinstance(value, float) and not math.isfinite(value):
        return [], value
    for key, item in _items(value):
        if isinstance(item, float | list | dict) and (found := _find_non_finite(item)):
            return [key, *found[0]], found[1]
    return None


def _find_deeper(value: Any, levels: int) -> Path | None:  # noqa: ANN401 - any JSON
    """Return the path of the first value that lies under `levels` containers; None if there is none."""
    if levels == 0:
        return []
    for key, item in _items(value):
        if (isinstance(item, list | dict) or levels == 1) and (found := _find_deeper(item, levels - 1)) is not None:
            return [key, *found]
    return None
