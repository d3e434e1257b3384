"""Identifiers: a prefix and 21 characters `[0-9A-Za-z]`, as the v4 contract has them.

Minted ids begin with eight characters of time, so sorting by id is sorting by creation. Derived ids are a hash of
what they stand for, so the same thing said twice is the same thing; they carry no time.
"""

import hashlib
import re
import secrets
import time

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 21
_TIME_LENGTH = 8
_TICK_NANOSECONDS = 15_625
"""1/64 ms: fine enough to order a burst, and eight base-62 digits of it last until the year 2078."""

_WELL_FORMED = re.compile(r"[a-z]+_[0-9A-Za-z]{21}")


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def mint(prefix: str) -> str:
    """A new id: `mint("data")` gives `data_` + time + randomness. Ascending in creation order across processes."""
    ticks = time.time_ns() // _TICK_NANOSECONDS
    randomness = secrets.randbits(80)
    return f"{prefix}_{_base62(ticks, _TIME_LENGTH)}{_base62(randomness, LENGTH - _TIME_LENGTH)}"


def minted_at(identifier: str) -> float:
    """When a minted id was made, in seconds since 1970. Of a derived id it is any time from 1970 to 2078."""
    ticks = 0
    for digit in identifier.rpartition("_")[2][:_TIME_LENGTH]:
        ticks = ticks * 62 + ALPHABET.index(digit)
    return ticks * _TICK_NANOSECONDS / 1e9


def derive(prefix: str, *parts: str) -> str:
    """The id that stands for `parts`: equal parts, equal id (sha256, so others cannot be aimed at one)."""
    digest = hashlib.sha256("\x00".join((prefix, *parts)).encode()).digest()
    return f"{prefix}_{_base62(int.from_bytes(digest[:20], 'big'), LENGTH)}"


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the form of an id with this prefix."""
    return text.startswith(f"{prefix}_") and _WELL_FORMED.fullmatch(text) is not None
