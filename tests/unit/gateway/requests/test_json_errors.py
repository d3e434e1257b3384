"""The error of a body that cannot be read says why, and where."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.errors import InvalidJson
from services.gateway.requests.parsing import parse_body

DEEP = "[" * 129 + "]" * 129
VERY_DEEP = "[" * 250 + "]" * 250
HALVES = [r"\ud83d", r"\udc4d", r"\ud83d\ud83d", r"x\ud83d\u0041", r"\ud83d,", r"\uDFFF x"]


def error_of(raw: str | bytes) -> InvalidJson:
    with pytest.raises(InvalidJson) as caught:
        parse_body(raw if isinstance(raw, bytes) else raw.encode())
    return caught.value


@pytest.mark.parametrize(
    ("raw", "path", "place", "reason"),
    [
        (
            '{"inputs": {"rows": [{}, {"cost": NaN}]}}',
            ["inputs", "rows", 1, "cost"],
            "inputs.rows[1].cost",
            "NaN is no",
        ),
        ("[1, [2, -Infinity]]", [1, 1], "[1][1]", "infinite or too large"),
        ('{"metadata": {"unit price": 1e999}}', ["metadata", "unit price"], 'metadata["unit price"]', "too large"),
        ("Infinity", [], "", "infinite"),
        (
            f'{{"output": "x", "inputs": {{"tree": {DEEP}}}}}',
            ["inputs", "tree", *[0] * 6],
            "inputs.tree[0]",
            "128 levels",
        ),
        (f'{{"inputs": {VERY_DEEP}}}', ["inputs", *[0] * 7], "(inputs[0]", "nested more than 128 levels"),
        ('{"inputs": {"n": ' + "7" * 5000 + "}}", ["inputs", "n"], "(inputs.n)", "too many digits"),
        (
            '{\n  "inputs": {"a": 1,\n  "b": [1, 2,, 3]}}',
            ["inputs", "b", 2],
            "line 3 column 14 (inputs.b[2])",
            "value is exp",
        ),
        ('{"a": 1,}', [], "line 1 column 9", "trailing comma"),
        ('{"é": "é", b}', [], "line 1 column 12", "key must be a string"),
        ('{"a" 1}', ["a"], "line 1 column 6 (a)", "expected `:`"),
        ('{"a": {"b": tru}}', ["a", "b"], "line 1 column 16 (a.b)", "not a JSON value"),
        ('{"a": "b', ["a"], "line 1 column 8 (a)", "ends in the middle"),
        ('{"a": 1} {"a": 2}', [], "line 1 column 10", "trailing characters"),
        ('{"a": ["[{,", "\\q"]}', ["a", 1], "(a[1])", "invalid escape"),
        (b'{"output": "caf\xe9"}', ["output"], "line 1 column 16 (output)", "UTF-8"),
        (b'{"output": "\xed\xa0\xbd"}', ["output"], "(output)", "UTF-8"),
        ('{"output": "x"}'.encode("utf-16"), [], "", "UTF-16"),
        ('{"output": "x"}'.encode("utf-16-le"), [], "", "UTF-16"),
        ('{"output": "x"}'.encode("utf-32-be"), [], "", "UTF-32"),
        ("{" + f'"{"k" * 100}": NaN' + "}", ["k" * 60 + "…"], "k" * 60 + "…", "NaN"),
    ],
)
def test_an_error_names_reason_and_place(raw: str | bytes, path: list[str | int], place: str, reason: str) -> None:
    error = error_of(raw)
    assert error.path == path
    assert place in error.msg
    assert reason in error.msg


@pytest.mark.parametrize("halves", HALVES)
def test_half_of_a_surrogate_pair_is_refused_with_its_place(halves: str) -> None:
    error = error_of(f'{{"messages": [{{"content": "hi"}}, {{"content": "{halves}"}}]}}')
    assert error.path == ["messages", 1, "content"]
    assert "half of a surrogate pair" in error.msg
    assert error_of(f'{{"{halves}": 1}}').path == []


def test_a_whole_pair_a_byte_order_mark_and_a_repeated_key_are_read() -> None:
    assert parse_body(b'{"a": "\\ud83d\\udc4d"}').content == {"a": "👍"}
    assert parse_body(b'\xef\xbb\xbf{"a": 1}').content == {"a": 1}
    assert parse_body(b'{"a": 1, "a": 2}').content == {"a": 2}


def test_far_into_a_long_body_an_error_has_line_and_column_and_the_path_where_it_could_be_parsed() -> None:
    padding = '"x": "' + "y" * 100_000 + '",\n'
    broken = error_of(f'{{{padding}"a": [1,,2]}}')
    assert (broken.path, broken.msg) == ([], "line 2 column 9: a JSON value is expected here.")
    assert error_of(f'{{{padding}"a": [1, NaN]}}').path == ["a", 1]
    many_lines = error_of("\n" * 900_000 + "{,}")
    assert (many_lines.path, many_lines.msg) == ([], "line 900001 column 2: key must be a string.")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(
    value=JSON,
    path=st.lists(st.integers(0, 3) | st.text(max_size=5), max_size=8),
    neighbour=JSON,
    indent=st.none() | st.integers(0, 2),
)
@pytest.mark.parametrize("bad", ["NaN", "1e999", '"\\ud800"', "x", "01"])
def test_the_path_leads_to_the_value(bad: str, value: Any, path: list[str | int], neighbour: Any, indent: int) -> None:
    """Of any body: the value at `path` is replaced by a bad one."""
    body: Any = "@@bad@@"
    for key in reversed(path):
        if isinstance(key, int):
            body = [neighbour] * key + [body, value]
        else:
            body = {"before" + key: neighbour, key: body, "after" + key: value}
    text = json.dumps(body, indent=indent).replace('"@@bad@@"', bad)
    assert error_of(text).path == path


def test_a_body_cut_off_anywhere_is_an_error() -> None:
    raw = json.dumps({"a": [1, {"b": "ü\\"}], "c": -1.5e3, "d": None}, ensure_ascii=False).encode()
    assert parse_body(raw).content["d"] is None
    for length in range(len(raw)):
        assert error_of(raw[:length]).msg


async def test_the_response_is_a_validation_error_at_the_place(client: httpx.AsyncClient) -> None:
    raw = b'{"url": {"cost": [1, NaN]}}'
    refused = await client.post("/echo", content=raw, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
    (detail,) = refused.json()["detail"]
    assert detail == {
        "loc": ["body", "url", "cost", 1],
        "msg": "url.cost[1]: NaN is no JSON value; send null.",
        "type": "json_invalid",
    }
