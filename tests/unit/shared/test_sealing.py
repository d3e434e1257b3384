"""Provider keys on the bus and at rest."""

import base64

import pytest
from pydantic import SecretStr

from shared.errors import Internal
from shared.sealing import Seal

SECRET = SecretStr(base64.urlsafe_b64encode(bytes(range(32))).decode())
OTHER = SecretStr(base64.urlsafe_b64encode(bytes(range(1, 33))).decode())
KEYS = {"openai": "sk-very-secret", "anthropic": "ключ"}


def test_what_was_closed_is_opened_under_the_same_secret() -> None:
    assert Seal(SECRET).open(Seal(SECRET).close(KEYS)) == KEYS


def test_nothing_shows_and_nothing_repeats() -> None:
    seal = Seal(SECRET)
    sealed = seal.close(KEYS)
    assert "sk-very-secret" not in sealed
    assert sealed != seal.close(KEYS)


def test_another_secret_does_not_open_it() -> None:
    with pytest.raises(Internal):
        Seal(OTHER).open(Seal(SECRET).close(KEYS))


def test_what_was_touched_is_not_opened() -> None:
    sealed = Seal(SECRET).close(KEYS)
    middle = len(sealed) // 2
    touched = sealed[:middle] + ("A" if sealed[middle] != "A" else "B") + sealed[middle + 1 :]
    with pytest.raises(Internal):
        Seal(SECRET).open(touched)


def test_the_secret_may_lack_its_padding() -> None:
    bare = SecretStr(SECRET.get_secret_value().rstrip("="))
    assert Seal(bare).open(Seal(SECRET).close(KEYS)) == KEYS


@pytest.mark.parametrize(
    "secret", ["", "short", "x" * 32, base64.urlsafe_b64encode(bytes(31)).decode(), "not base64!" * 5]
)
def test_a_secret_of_another_size_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="EVERLOOP_SECRET") as caught:
        Seal(SecretStr(secret))
    assert not secret or secret not in str(caught.value)
