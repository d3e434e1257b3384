"""Passwords, hashed with Argon2id, because people choose what can be guessed.

The library's defaults (RFC 9106, second recommendation: 64 MiB, 3 passes) take 0.12 s of one processor on the machine
this was written on, so few are computed at a time, outside the event loop.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import Invalid, Unavailable

_hasher = PasswordHasher()
_NOBODYS_HASH = _hasher.hash("nobody has this password")
"""Verified where there is no password, so that the answer takes as long."""

MIN_LENGTH = 12
"""Characters. Length is what counts; rules about kinds of characters make passwords no harder to guess (NIST SP
800-63B-4, 3.1.1.2)."""
MAX_LENGTH = 256
_AT_ONCE = 2
_MAX_WAITING = 40
"""Some 3 s of work. More are refused at once, since their callers would have left."""


def hash_password(password: str) -> str:
    """Return the hash with its salt and parameters, as a PHC string. Blocks for some 0.1 s."""
    return _hasher.hash(password)


def validate_password(password: str, *, field: str, email: str) -> str:
    """Return `password`. Raises Invalid, naming `field`, if it is too short or long, or about the email address."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Invalid(f"{field} must have {MIN_LENGTH} to {MAX_LENGTH} characters.")
    name = email.partition("@")[0]
    if password.lower() in {email, name * 2, name * 3} or len(set(password)) < MIN_LENGTH // 3:
        raise Invalid(f"{field} is too easy to guess: choose several words that have nothing to do with you.")
    return password


class PasswordHashing:
    """Hashes and verifies passwords in threads, two at a time: each takes 64 MiB and a processor."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return the hash of a password. Raises Unavailable if too many wait."""
        async with self._turn():
            return await asyncio.to_thread(hash_password, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Return whether the hash is that of the password; None is nobody's, and takes as long.

        Raises Unavailable if too many wait.
        """
        async with self._turn():
            matches = await asyncio.to_thread(_matches, password, password_hash or _NOBODYS_HASH)
        return matches and bool(password_hash)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= _MAX_WAITING:
            raise Unavailable("Too many people sign in at this moment. Try again.", retry_after_seconds=3)
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1


def _matches(password: str, password_hash: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
