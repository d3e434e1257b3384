"""JSON that providers and models wrote, read with an end to it: their answers are kept, and read again by others."""

from typing import Any

from pydantic_core import from_json

DEEPEST = 128
"""Levels of nesting, as of request bodies: messages of the bus and documents wrap a value in a few levels of their own,
and readers give up at 200."""
_MOST_VALUES = 2_000_000
"""As many as 16,000 tokens with twenty log probabilities each have. More take seconds, in which no other thread runs,
and many times their bytes of memory. Each value but the first follows a comma or opens a bracket."""


def read_json(text: str | bytes, *, allow_inf_nan: bool = True) -> Any:  # noqa: ANN401 - any JSON
    """Errors: ValueError (no JSON, too deep, too many values)."""
    openings = _count(text, "[") + _count(text, "{")
    if openings + _count(text, ",") > _MOST_VALUES:
        raise ValueError("more values than anybody needs")
    value = from_json(text, allow_inf_nan=allow_inf_nan)
    if openings > DEEPEST:
        _check_depth(value)
    return value


def _count(text: str | bytes, character: str) -> int:
    return text.count(character) if isinstance(text, str) else text.count(character.encode())


def _check_depth(value: Any) -> None:  # noqa: ANN401 - any JSON
    level = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {DEEPEST} levels deep")
