"""Provider keys are in no parsed body."""

import json
from typing import Any

import pytest

from services.gateway.requests.parsing import parse_body

KEYS = {"openai": "sk-secret"}


@pytest.mark.parametrize(
    "body",
    [
        {"project": "p", "provider_api_keys": KEYS},
        {"config": {"other": {"provider_api_keys": KEYS}}},
        [{"provider_api_keys": KEYS}, {"messages": [{"content": [{"provider_api_keys": "sk-secret"}]}]}],
        {"provider_api_keys": {"provider_api_keys": KEYS}},
    ],
    ids=["top", "nested", "in arrays", "in itself"],
)
def test_provider_keys_are_removed_at_every_level(body: Any) -> None:
    content = json.dumps(parse_body(json.dumps(body).encode()).content)
    assert "provider_api_keys" not in content
    assert "sk-secret" not in content


def test_only_keys_at_the_top_of_an_object_are_returned() -> None:
    assert parse_body(json.dumps({"provider_api_keys": KEYS, "a": 1}).encode()).provider_api_keys == KEYS
    assert parse_body(json.dumps({"a": {"provider_api_keys": KEYS}}).encode()).provider_api_keys is None
    assert parse_body(json.dumps([{"provider_api_keys": KEYS}]).encode()).provider_api_keys is None
