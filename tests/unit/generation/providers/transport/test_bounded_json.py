"""JSON from providers is parsed within limits."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.providers.transport import bounded_json
from services.generation.providers.transport.bounded_json import MAX_DEPTH, read_json, read_json_with_surrogates

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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'["x\\ud83d", "\\ude00y"]', ["x\ufffd", "\ufffdy"]),
        (b'{"\\ud83d": 1}', {"\ufffd": 1}),
        (b'"a\xffb"', "a\ufffdb"),
        (b'"\xed\xa0\xbd\xed\xb8\x80"', "😀"),
        (b'"a\xe2\x98"', "a\ufffd"),
        ('"\\ud83d"', "\ufffd"),
        ('"\ud83d"', "\ufffd"),
        (b'"a\tb\x00\n"', "a\tb\x00\n"),
    ],
)
def test_characters_that_json_has_otherwise_are_read(text: str | bytes, value: Any) -> None:
    assert read_json(text) == value


def test_halves_may_be_kept_for_their_other_half() -> None:
    assert read_json_with_surrogates(b'["\\ud83d", 1]') == (["\ud83d", 1], True)
    assert read_json_with_surrogates(b'["\\ud83d\\ude00", 1]') == (["😀", 1], False)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": "\xff"', b'["\\ud83d",]', b"nul", b'["\\ud83d"] 1'])
def test_what_is_no_json_is_refused_whatever_its_characters(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_json(text)


def test_the_limits_hold_for_odd_characters_as_well() -> None:
    with pytest.raises(ValueError, match="nested"):
        read_json(b'["\\ud83d", ' + b"[" * 200 + b"]" * 200 + b"]")
    with pytest.raises(ValueError, match="nested"):
        read_json(b'["\\ud83d", ' + b"[" * 100_000 + b"]" * 100_000 + b"]")
    with pytest.raises(ValueError, match="not JSON"):
        read_json(b'["\\ud83d", NaN]', allow_inf_nan=False)
