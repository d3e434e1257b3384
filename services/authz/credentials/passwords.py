"""Hashes passwords with Argon2id, because people choose what can be guessed.

The library's defaults (RFC 9106, second recommendation: 64 MiB, 3 passes) take 0.12 s of one processor on the machine
this was written on. That blocks an event loop: call through `asyncio.to_thread`.
"""

from argon2 import PasswordHasher

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """Return the hash with its salt and parameters, as a PHC string. Blocks for some 0.1 s."""
    return _hasher.hash(password)
