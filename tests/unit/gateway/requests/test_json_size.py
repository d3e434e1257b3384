"""JSON is measured by what it becomes, without parsing it; what strings hold is text."""

import json
from typing import Any

import pytest

from services.gateway.requests import json_size
from services.gateway.requests.json_size import MAX_PARSED_BYTES, MAX_TEXT_BYTES, measure_json
from shared.errors import TooLarge
from tests.unit.gateway.requests.fakes import data_url


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "dense",
    [
        b"[" + b"[]," * 800_000 + b"1]",
        b"[" + b"{}," * 150_000 + b"1]",
        b"[" + b'{"a":1},' * 150_000 + b"1]",
        b"[" + b"1," * 1_900_000 + b"1]",
        b"[" + b'"",' * 1_300_000 + b"1]",
        b'["' + b"x" * 100_000 + b'",' + b"{}," * 150_000,
        b'"\\"",' + b"{}," * 150_000,
    ],
    ids=["arrays", "objects", "filled objects", "numbers", "strings", "after a long string", "after an escaped quote"],
)
def test_dense_json_is_too_large(dense: bytes) -> None:
    assert len(dense) < MAX_TEXT_BYTES
    with pytest.raises(TooLarge, match="values"):
        measure_json(dense)


@pytest.mark.parametrize(
    "inner",
    ["[]," * 1_000_000, '{"a": 1},' * 200_000, '\\",{' * 300_000, "\\" * 1_000_000, "{{x}}, " * 300_000],
    ids=["arrays", "JSON", "quotes", "backslashes", "templates"],
)
@pytest.mark.parametrize("before", ["", "x" * 70_000], ids=["alone", "after another"])
def test_what_a_string_holds_is_text(inner: str, before: str) -> None:
    raw = text({"before": before, "inner": inner, "after": [1, 2, 3]})
    assert len(raw) < measure_json(raw).parsed_bytes < len(raw) + 10_000


@pytest.mark.parametrize("cut", [1, 100_000, 1_000_000])
def test_an_unterminated_string_is_left_to_the_parser(cut: int) -> None:
    raw = text({"inner": '\\",{[' * 300_000})
    assert measure_json(raw[:-cut]).parsed_bytes < len(raw) + 10_000


def test_images_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_size, "MAX_TEXT_BYTES", 3000)
    body = {"images": [data_url(), data_url(), "data:image/png;base64,short"], "text": "x" * 2000}
    assert measure_json(text(body)).parsed_bytes < 4000
    with pytest.raises(TooLarge, match="at most 3,000 fit"):
        measure_json(text(body | {"more": "x" * 1000}))
    with pytest.raises(TooLarge):
        measure_json(b'{"a": ";base64,", "b": [' + b"1," * 2000)


def test_the_estimate_is_not_far_from_what_is_taken() -> None:
    """An estimate that is too low would let too many bodies in at once."""
    assert measure_json(text(list(range(100_000)))).values == 100_000
    assert 100_000 * 200 < measure_json(text([{"a": 1}] * 100_000)).parsed_bytes < MAX_PARSED_BYTES
    assert measure_json(b"{}").parsed_bytes == 2
