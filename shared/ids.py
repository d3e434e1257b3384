"""Creates ids: a prefix, `_`, and 21 characters `[0-9A-Za-z]`, as the v4 contract has them.

Minted ids begin with eight characters of time, so sorting by id is sorting by creation. Derived ids are a hash of the
parts they identify, so equal parts have the same id; they carry no time.
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
    """Return a new id: `mint("data")` gives `data_` + time + 80 random bits. Ids of all processes ascend with time."""
    ticks = time.time_ns() // _TICK_NANOSECONDS
    randomness = secrets.randbits(80)
    return f"{prefix}_{_base62(ticks, _TIME_LENGTH)}{_base62(randomness, LENGTH - _TIME_LENGTH)}"


def minted_at(identifier: str) -> float:
    """Return when an id was minted, in seconds since 1970; for a derived id any time from 1970 to 2078."""
    ticks = 0
    for digit in identifier.rpartition("_")[2][:_TIME_LENGTH]:
        ticks = ticks * 62 + ALPHABET.index(digit)
    return ticks * _TICK_NANOSECONDS / 1e9


def derive(prefix: str, *parts: str) -> str:
    """Return the id of `parts`: equal parts, equal id (sha256, so nobody can find other parts with the same id)."""
    digest = hashlib.sha256("\x00".join((prefix, *parts)).encode()).digest()
    return f"{prefix}_{_base62(int.from_bytes(digest[:20], 'big'), LENGTH)}"


def is_id(prefix: str, text: str) -> bool:
    """Return whether `text` has the form of an id with this prefix."""
    return text.startswith(f"{prefix}_") and _WELL_FORMED.fullmatch(text) is not None
