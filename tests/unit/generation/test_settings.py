"""Settings of this service that are more than a word."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from services.generation.settings import CompatibleProvider, Settings


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    monkeypatch.setenv("EVERLOOP_SECRET", "s" * 32)
    for name, value in variables.items():
        monkeypatch.setenv(f"EVERLOOP_{name}", value)
    return Settings()


def test_compatible_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"house": {"base_url": "https://llm.example/v1", "key_variable": "HOUSE_KEY", "lacks": ["tools"]}}
    read = settings(monkeypatch, COMPATIBLE_PROVIDERS=json.dumps(given)).compatible_providers
    assert read == {
        "house": CompatibleProvider(
            base_url="https://llm.example/v1", key_variable="HOUSE_KEY", lacks=frozenset({"tools"})
        )
    }


@pytest.mark.parametrize("nothing", ["", "{}"])
def test_none(monkeypatch: pytest.MonkeyPatch, nothing: str) -> None:
    assert settings(monkeypatch, COMPATIBLE_PROVIDERS=nothing, AZURE_HOSTS="").compatible_providers == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("{house: 1}", "it must be a JSON object like"),
        ("[1]", "valid dictionary"),
        ({"Not A Name": {"base_url": "http://x"}}, "Not A Name"),
        ({"x": {}}, "base_url"),
        ({"x": {"base_url": "llm.example/v1"}}, "an address like"),
        ({"x": {"base_url": "ftp://llm.example"}}, "an address like"),
        ({"x": {"base_url": "http://llm.example/v1?key=1"}}, "without a query"),
        ({"x": {"base_url": "http://x", "key": "sk"}}, "Extra inputs are not permitted"),
        ({"x": {"base_url": "http://x", "key_variable": "NOT A NAME"}}, "key_variable"),
    ],
)
def test_a_mistake_is_told_at_start(monkeypatch: pytest.MonkeyPatch, given: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        settings(monkeypatch, COMPATIBLE_PROVIDERS=given if isinstance(given, str) else json.dumps(given))


def test_azure_hosts_are_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, AZURE_HOSTS="a.example, B.example").azure_hosts == "a.example, B.example"
    with pytest.raises(ValidationError, match="without https://"):
        settings(monkeypatch, AZURE_HOSTS="https://a.example")
