"""Encryption of provider keys and tool secrets."""

import base64

import pytest
from pydantic import SecretStr

from shared.encryption import SecretBox
from shared.errors import Internal


def secret(first: int) -> SecretStr:
    """32 bytes, other ones for every number."""
    return SecretStr(base64.urlsafe_b64encode(bytes(range(first, first + 32))).decode())


def both(*secrets: SecretStr) -> SecretStr:
    return SecretStr(", ".join(each.get_secret_value() for each in secrets))


SECRET, OTHER, THIRD = secret(0), secret(1), secret(2)
KEYS = {"openai": "sk-very-secret", "anthropic": "ключ"}


def test_what_was_encrypted_is_decrypted_with_the_same_secret() -> None:
    assert SecretBox(SECRET).decrypt(SecretBox(SECRET).encrypt(KEYS)) == KEYS


def test_a_ciphertext_shows_no_value_and_never_repeats() -> None:
    box = SecretBox(SECRET)
    ciphertext = box.encrypt(KEYS)
    assert "sk-very-secret" not in ciphertext
    assert ciphertext != box.encrypt(KEYS)


def test_another_secret_does_not_decrypt_it() -> None:
    with pytest.raises(Internal):
        SecretBox(OTHER).decrypt(SecretBox(SECRET).encrypt(KEYS))


def test_a_changed_ciphertext_is_not_decrypted() -> None:
    ciphertext = SecretBox(SECRET).encrypt(KEYS)
    middle = len(ciphertext) // 2
    touched = ciphertext[:middle] + ("A" if ciphertext[middle] != "A" else "B") + ciphertext[middle + 1 :]
    with pytest.raises(Internal):
        SecretBox(SECRET).decrypt(touched)


def test_the_secret_may_lack_its_padding() -> None:
    bare = SecretStr(SECRET.get_secret_value().rstrip("="))
    assert SecretBox(bare).decrypt(SecretBox(SECRET).encrypt(KEYS)) == KEYS


def test_fallbacks_decrypt_and_the_newest_alone_encrypts() -> None:
    rotated = SecretBox(OTHER, both(SECRET, THIRD))
    assert rotated.decrypt(SecretBox(SECRET).encrypt(KEYS)) == KEYS
    assert rotated.decrypt(SecretBox(THIRD).encrypt(KEYS)) == KEYS
    assert SecretBox(OTHER).decrypt(rotated.encrypt(KEYS)) == KEYS
    with pytest.raises(Internal):
        SecretBox(SECRET).decrypt(rotated.encrypt(KEYS))


def test_processes_that_know_both_secrets_in_another_order_understand_each_other() -> None:
    before, after = SecretBox(SECRET, OTHER), SecretBox(OTHER, SECRET)
    assert after.decrypt(before.encrypt(KEYS)) == KEYS
    assert before.decrypt(after.encrypt(KEYS)) == KEYS


def test_a_rotated_ciphertext_is_decrypted_without_the_old_secret() -> None:
    old = SecretBox(SECRET).encrypt(KEYS)
    new = SecretBox(OTHER, SECRET).rotate(old)
    assert new is not None
    assert SecretBox(OTHER).decrypt(new) == KEYS
    assert SecretBox(OTHER, SECRET).rotate(new) is None
    with pytest.raises(Internal):
        SecretBox(OTHER).rotate(old)


@pytest.mark.parametrize(
    "wrong", ["", "short", "x" * 32, base64.urlsafe_b64encode(bytes(31)).decode(), "not base64!" * 5]
)
def test_a_secret_of_another_size_is_refused_without_being_shown(wrong: str) -> None:
    with pytest.raises(ValueError, match="EVERLOOP_SECRET") as caught:
        SecretBox(SecretStr(wrong))
    assert not wrong or wrong not in str(caught.value)


def test_a_wrong_fallback_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="EVERLOOP_SECRET_FALLBACKS") as caught:
        SecretBox(SECRET, SecretStr(f"{OTHER.get_secret_value()},too-short"))
    assert "too-short" not in str(caught.value)
