"""API keys."""

import hashlib
import re

import pytest

from services.authz import keys, passwords
from shared.contracts.principal import Role
from shared.errors import Invalid


def test_a_secret_is_48_random_letters_and_digits() -> None:
    secrets = {keys.mint() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(re.fullmatch(r"hl_[A-Za-z0-9]{48}", secret) for secret in secrets)


def test_the_hash_is_what_the_gateway_sends() -> None:
    assert keys.hash_of("hl_x") == hashlib.sha256(b"hl_x").hexdigest()


def test_the_tail_tells_keys_apart() -> None:
    assert keys.tail_of("hl_abcdefgh") == "efgh"


def test_a_name_is_kept_without_the_white_space_around_it() -> None:
    assert keys.named("  nightly run ") == "nightly run"


@pytest.mark.parametrize("name", ["", " \t", "x" * 101])
def test_a_name_is_neither_empty_nor_long(name: str) -> None:
    with pytest.raises(Invalid):
        keys.named(name)


@pytest.mark.parametrize(
    ("wanted", "creator", "given"),
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
def test_a_key_never_has_more_than_its_creator(wanted: Role | None, creator: Role, given: Role) -> None:
    assert keys.role_for(wanted, creator) == given


def test_passwords_are_hashed_slowly_and_each_with_a_salt_of_its_own() -> None:
    one, other = passwords.hash_of("correct horse"), passwords.hash_of("correct horse")
    assert one != other
    assert re.match(r"\$argon2id\$v=19\$m=65536,t=3,p=4\$", one)
