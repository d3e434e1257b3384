"""Parses JSON from providers and models within bounds of depth and size: it is stored and parsed again by others."""

from typing import Any

from pydantic_core import from_json

MAX_DEPTH = 128
"""Levels of nesting, as of request bodies: messages of the bus and documents wrap a value in a few levels of their own,
and parsers give up at 200."""
_MAX_VALUES = 2_000_000
"""As many as 16,000 tokens with twenty log probabilities each have. More take seconds, in which no other thread runs,
and many times their bytes of memory. Each value but the first follows a comma or opens a bracket."""


def read_json(text: str | bytes, *, allow_inf_nan: bool = True) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON. Raises ValueError (not JSON, too deep, too many values)."""
    openings = _count(text, "[") + _count(text, "{")
    if openings + _count(text, ",") > _MAX_VALUES:
        raise ValueError(f"more than {_MAX_VALUES:,} values")
    value = from_json(text, allow_inf_nan=allow_inf_nan)
    if openings > MAX_DEPTH:
        _check_depth(value)
    return value


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
