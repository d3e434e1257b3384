"""Single fields of replies: what they may mean, whatever JSON stands there."""

import json
import math
from typing import Any

import pytest

from services.generation.providers.dialects import reply_fields
from services.generation.providers.dialects.reply_fields import as_finish_reason, as_object, as_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("yes", "yes"),
        ({"type": "text", "text": "yes"}, "yes"),
        ([{"type": "text", "text": {"value": "yes", "annotations": []}}], "yes"),
        ([{"type": "text", "content": "yes"}], "yes"),
        ([{"type": "tool_result", "content": "of a tool"}, {"type": "text", "text": "yes"}], "yes"),
        ([["y"], {"text": "es"}], "yes"),
        ({"type": "thinking", "text": "hm"}, ""),
        ([{"type": "image_url", "image_url": {"url": "x"}}], ""),
    ],
)
def test_the_text_of_an_answer_is_found_in_its_parts(value: Any, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize("value", [{"type": "invoice", "total": 7}, {"text": None, "total": 7}, {"value": "x"}, {}])
def test_an_answer_in_json_that_the_server_parsed_is_json_again(value: Any) -> None:
    assert reply_fields.as_text(value) == reply_fields.as_json_text(value)


def test_numbers_that_json_cannot_write_are_null_in_it() -> None:
    value = {"a": [math.inf, -math.inf, 1.5], "b": {"c": math.nan}, "d": "\ud83d"}
    text = reply_fields.as_json_text(value) or ""
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, None, 1.5], "b": {"c": None}, "d": "\ud83d"}
    assert [reply_fields.as_json_text(number) for number in (math.inf, 7, 10**400)] == ["null", "7", "1" + "0" * 400]


@pytest.mark.parametrize(
    ("value", "read"),
    [({"a": 1}, {"a": 1}), ([{"a": 1}], {"a": 1}), ([{"a": 1}, {"a": 2}], {}), (["a"], {}), ("a", {})],
)
def test_the_object_of_a_list_of_one_is_read_as_the_object(value: Any, read: Any) -> None:
    assert as_object(value) == read


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("length", "length"),
        ("LENGTH", "length"),
        ("max_tokens", "length"),
        ("of_the_future", "stop"),
        (7, "stop"),
        ("null", None),
        ("", None),
        (None, None),
    ],
)
def test_reasons_are_read_in_upper_and_lower_case(value: Any, reason: str | None) -> None:
    assert as_finish_reason(value, {"length": "length", "MAX_TOKENS": "length"}) == reason
