"""API keys."""

import hashlib
import re

import pytest

from services.authz.credentials import keys, passwords
from services.authz.credentials.random_secrets import hash_secret
from shared.contracts.principal import Role
from shared.errors import Invalid


def test_a_secret_is_48_random_letters_and_digits() -> None:
    secrets = {keys.generate_key() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(re.fullmatch(r"hl_[A-Za-z0-9]{48}", secret) for secret in secrets)


def test_the_hash_is_the_sha256_that_the_gateway_sends() -> None:
    assert hash_secret("hl_x") == hashlib.sha256(b"hl_x").hexdigest()


def test_the_tail_is_the_last_four_characters() -> None:
    assert keys.secret_tail("hl_abcdefgh") == "efgh"


def test_a_name_is_stored_without_surrounding_white_space() -> None:
    assert keys.validate_name("  nightly run ") == "nightly run"


@pytest.mark.parametrize("name", ["", " \t", "x" * 101])
def test_a_name_is_neither_empty_nor_long(name: str) -> None:
    with pytest.raises(Invalid):
        keys.validate_name(name)


@pytest.mark.parametrize(
    ("requested", "creator", "role"),
    [
        (None, "Admin", "Developer"),
        (None, "Developer", "Developer"),
        (None, "Member", "Member"),
        ("Admin", "Admin", "Admin"),
        ("Admin", "Developer", "Developer"),
        ("Member", "Admin", "Member"),
        ("Developer", "Member", "Member"),
    ],
)
def test_a_key_never_has_a_higher_role_than_its_creator(requested: Role | None, creator: Role, role: Role) -> None:
    assert keys.role_of_new_key(requested, creator) == role


def test_passwords_are_hashed_slowly_and_each_with_a_salt_of_its_own() -> None:
    one, other = passwords.hash_password("correct horse"), passwords.hash_password("correct horse")
    assert one != other
    assert re.match(r"\$argon2id\$v=19\$m=65536,t=3,p=4\$", one)
