"""JSON from providers is parsed within limits."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.providers.transport import bounded_json
from services.generation.providers.transport.bounded_json import MAX_DEPTH, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_json_is_parsed_unchanged(value: Any) -> None:
    text = json.dumps(value)
    assert read_json(text) == read_json(text.encode()) == value


@pytest.mark.parametrize("around", ["[%s]", '{"a": [%s]}', '[{}, [%s], "text"]'])
def test_nesting_is_limited(around: str) -> None:
    levels = around.count("[%s]") + around.startswith(("{", "[{"))
    value = '{"deep": 1}'
    for _ in range((MAX_DEPTH - 1) // levels):
        value = around % value
    read_json(value)
    for _ in range(2):
        value = around % value
    with pytest.raises(ValueError, match="nested"):
        read_json(value)


def test_wide_json_is_not_too_deep() -> None:
    assert len(read_json(json.dumps([{"a": []}] * 1_000))) == 1_000


def test_the_number_of_values_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_json, "_MAX_VALUES", 10)
    assert read_json("[1,2,3]") == [1, 2, 3]
    with pytest.raises(ValueError, match="more than 10 values"):
        read_json(b"[" + b"[]," * 11 + b"[]]")
    with pytest.raises(ValueError, match="more than 10 values"):
        read_json("[" * 11 + "]" * 11)
