"""Passwords: hashes, what is too weak, and how many are computed at a time."""

import asyncio

import pytest
from argon2 import PasswordHasher

from services.authz.credentials import passwords
from services.authz.credentials.passwords import PasswordHashing, validate_password
from shared.errors import Invalid, Unavailable


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


async def test_a_password_is_verified_by_its_hash() -> None:
    hashing = PasswordHashing()
    stored = await hashing.hash("correct horse battery")
    assert stored.startswith("$argon2id$")
    assert await hashing.verify("correct horse battery", stored)
    assert not await hashing.verify("correct horse batterx", stored)


@pytest.mark.parametrize("stored", [None, "", "plain text", "$argon2id$v=19$m=8,t=1,p=1$broken"])
async def test_without_a_hash_no_password_is_right(stored: str | None) -> None:
    assert not await PasswordHashing().verify("nobody has this password", stored)


async def test_a_hash_is_computed_for_nobody_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of the answer would tell who has an account."""
    computed: list[str] = []

    def matches(_: str, stored: str) -> bool:
        computed.append(stored)
        return False

    monkeypatch.setattr(passwords, "_matches", matches)
    await PasswordHashing().verify("x", None)
    assert computed == [passwords._NOBODYS_HASH]


@pytest.mark.parametrize(
    "password", ["short", "x" * 11, "x" * 257, "aaaaaaaaaaaaaaa", "ada@example.org", "AdaLovelace" * 2]
)
def test_weak_passwords_are_refused_with_the_name_of_the_field(password: str) -> None:
    with pytest.raises(Invalid, match=r"^new_password "):
        validate_password(
            password, field="new_password", email="ada@example.org" if "@" in password else "adalovelace@x"
        )


@pytest.mark.parametrize("password", ["correct horse battery", "пароль из слов", "12 charactèr"])
def test_long_passwords_of_any_characters_are_taken(password: str) -> None:
    assert validate_password(password, field="password", email="ada@example.org") == password


async def test_two_hashes_are_computed_at_a_time_and_a_crowd_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most, gate = 0, 0, asyncio.Event()
    loop = asyncio.get_running_loop()

    def compute(_: str) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        at_once -= 1
        return "hash"

    monkeypatch.setattr(passwords, "hash_password", compute)
    hashing = PasswordHashing()
    crowd = [asyncio.create_task(hashing.hash("x")) for _ in range(passwords._MAX_WAITING)]
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable, match="Too many people") as refused:
        await hashing.hash("x")
    assert refused.value.retry_after_seconds == 3
    gate.set()
    assert await asyncio.gather(*crowd) == ["hash"] * passwords._MAX_WAITING
    assert most == 2
    await hashing.hash("x")
