"""Minted and derived ids."""

import hashlib
import itertools

import pytest

from shared import ids


def test_an_id_is_its_prefix_and_21_letters_and_digits() -> None:
    identifier = ids.mint("data")
    assert ids.is_id("data", identifier)
    assert len(identifier) == len("data_") + 21


def test_ids_ascend_in_the_order_of_their_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1_700_000_000_000_000_000, 20_000)
    monkeypatch.setattr("shared.ids.time.time_ns", lambda: next(clock))
    minted = [ids.mint("data") for _ in range(5000)]
    assert minted == sorted(minted)


@pytest.mark.parametrize("year_seconds", [1_600_000_000, 1_700_000_000, 3_000_000_000, 3_400_000_000])
def test_ids_ascend_until_the_year_2077(monkeypatch: pytest.MonkeyPatch, year_seconds: int) -> None:
    monkeypatch.setattr("shared.ids.time.time_ns", lambda: year_seconds * 1_000_000_000)
    before = ids.mint("data")
    monkeypatch.setattr("shared.ids.time.time_ns", lambda: (year_seconds + 1) * 1_000_000_000)
    assert before < ids.mint("data")


def test_ids_of_the_same_instant_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.ids.time.time_ns", lambda: 1_700_000_000_000_000_000)
    assert len({ids.mint("data") for _ in range(20_000)}) == 20_000


def test_equal_parts_derive_the_same_id() -> None:
    assert ids.derive("sesh", "tm_1", "visit-9") == ids.derive("sesh", "tm_1", "visit-9")
    assert ids.is_id("sesh", ids.derive("sesh", "tm_1", "visit-9"))


def test_a_derived_id_never_changes_between_releases() -> None:
    # sha256 of "sesh", "tm_1" and "visit-9" joined by NUL, its first 20 bytes in base 62, the last 21 digits of that
    number = int.from_bytes(hashlib.sha256(b"sesh\x00tm_1\x00visit-9").digest()[:20], "big")
    digits = ""
    for _ in range(21):
        number, digit = divmod(number, 62)
        digits = ids.ALPHABET[digit] + digits
    assert ids.derive("sesh", "tm_1", "visit-9") == f"sesh_{digits}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("sesh", "tm_1", "a"), ("sesh", "tm_1", "b")),
        (("sesh", "tm_1", "a"), ("sesh", "tm_2", "a")),
        (("sesh", "tm_1", "a"), ("data", "tm_1", "a")),
        (("sesh", "ab", "c"), ("sesh", "a", "bc")),
    ],
)
def test_different_parts_derive_different_ids(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert ids.derive(*one).partition("_")[2] != ids.derive(*other).partition("_")[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data_",
        "data_short",
        "data_" + "x" * 22,
        "data_" + "x" * 20 + "-",
        "pr_" + "x" * 21,
        "data_" + "x" * 21 + "\n",
    ],
)
def test_malformed_ids_are_not_ids(text: str) -> None:
    assert not ids.is_id("data", text)


def test_a_minted_id_has_the_time_of_its_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.ids.time.time_ns", lambda: 1_700_000_000_123_456_789)
    assert ids.minted_at(ids.mint("data")) == pytest.approx(1_700_000_000.123456, abs=0.001)
