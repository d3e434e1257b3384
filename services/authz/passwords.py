"""Passwords of people: Argon2id, because people choose what can be guessed.

The library's defaults (RFC 9106, second recommendation: 64 MiB, 3 passes) take 0.12 s of one processor on the machine
this was written on. That blocks an event loop: call through `asyncio.to_thread`.
"""

from argon2 import PasswordHasher

_hasher = PasswordHasher()


def hash_of(password: str) -> str:
    """The password's hash with its salt and parameters (PHC string)."""
    return _hasher.hash(password)
