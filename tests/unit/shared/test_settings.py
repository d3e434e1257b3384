"""Defaults and validation of the settings that services share."""

import pytest
from pydantic import ValidationError

from shared.settings import EncryptionSettings, ServiceSettings


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ServiceSettings:
    monkeypatch.setenv("EVERLOOP_SECRET", "s" * 32)
    for name, value in variables.items():
        monkeypatch.setenv(f"EVERLOOP_{name}", value)
    return ServiceSettings()


def test_defaults_are_a_heartbeat_of_five_seconds_and_a_silence_of_fifteen() -> None:
    fields = ServiceSettings.model_fields
    assert (fields["bus_heartbeat_seconds"].default, fields["bus_silence_seconds"].default) == (5, 15)


def test_fractions_of_a_second_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch, BUS_HEARTBEAT_SECONDS="0.1", BUS_SILENCE_SECONDS="0.2")
    assert (read.bus_heartbeat_seconds, read.bus_silence_seconds) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("variables", "field", "sentence"),
    [
        ({"BUS_SILENCE_SECONDS": "9"}, "bus_silence_seconds", "at least 10, twice EVERLOOP_BUS_HEARTBEAT_SECONDS"),
        ({"BUS_HEARTBEAT_SECONDS": "8"}, "bus_silence_seconds", "at least 16"),
        ({"BUS_HEARTBEAT_SECONDS": "0"}, "bus_heartbeat_seconds", "greater than 0"),
        ({"BUS_SILENCE_SECONDS": "soon"}, "bus_silence_seconds", "valid number"),
    ],
)
def test_silence_shorter_than_two_heartbeats_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], field: str, sentence: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(monkeypatch, **variables)
    (error,) = caught.value.errors()
    assert error["loc"] == (field,)
    assert sentence in error["msg"]


def test_a_wrong_secret_does_not_stand_in_the_error_that_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLOOP_SECRET", "too-short-a-secret")
    with pytest.raises(ValidationError) as caught:
        EncryptionSettings()
    assert "secret" in str(caught.value)
    assert "too-short-a-secret" not in str(caught.value)
