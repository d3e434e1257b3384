"""Parses JSON from providers and models within bounds of depth and size: it is stored and parsed again by others."""

import json
from codecs import BOM_UTF8
from typing import Any, NoReturn

from pydantic_core import from_json

from services.generation.providers.transport.surrogates import without_surrogates

MAX_DEPTH = 128
"""Levels of nesting, as of request bodies: messages of the bus and documents wrap a value in a few levels of their own,
and parsers give up at 200."""
_MAX_VALUES = 2_000_000
"""As many as 16,000 tokens with twenty log probabilities each have. More take seconds, in which no other thread runs,
and many times their bytes of memory. Each value but the first follows a comma or opens a bracket."""


def read_json(text: str | bytes, *, allow_inf_nan: bool = True) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON; half of a surrogate pair and bytes that are no UTF-8 become U+FFFD. Raises ValueError (not JSON, too
    deep, too many values)."""
    value, has_surrogates = read_json_with_surrogates(text, allow_inf_nan=allow_inf_nan)
    return without_surrogates(value) if has_surrogates else value


def read_json_with_surrogates(text: str | bytes, *, allow_inf_nan: bool = True) -> tuple[Any, bool]:
    """Parse JSON and return whether its texts may hold halves of surrogate pairs, whose other half may be elsewhere.

    A byte order mark before it is left out. Raises as `read_json` does.
    """
    if isinstance(text, bytes):
        text = text.removeprefix(BOM_UTF8)
    openings = _count(text, "[") + _count(text, "{")
    if openings + _count(text, ",") > _MAX_VALUES:
        raise ValueError(f"more than {_MAX_VALUES:,} values")
    has_surrogates = False
    try:
        value = from_json(text, allow_inf_nan=allow_inf_nan)
    except (ValueError, TypeError):  # TypeError: a text with half of a pair in it
        value = _from_json_with_surrogates(text, allow_inf_nan=allow_inf_nan)
        has_surrogates = True
    if openings > MAX_DEPTH:
        _check_depth(value)
    if not allow_inf_nan:
        json.dumps(value, allow_nan=False)  # raises for a number that is too large, like 1e999, as well
    return value, has_surrogates


def _from_json_with_surrogates(text: str | bytes, *, allow_inf_nan: bool) -> Any:  # noqa: ANN401 - any JSON
    """Parse what `from_json` refuses because of its characters; slower."""
    decoded = _decode(text) if isinstance(text, bytes) else text
    try:
        # Not strict: some servers leave line feeds and tabs in texts as they are.
        return json.loads(decoded, strict=False, parse_constant=None if allow_inf_nan else _refuse_constant)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from error


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _count(text: str | bytes, character: str) -> int:
    return text.count(character) if isinstance(text, str) else text.count(character.encode())


def _check_depth(value: Any) -> None:  # noqa: ANN401 - any JSON
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
