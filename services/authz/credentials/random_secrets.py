"""Random secrets, of which only a hash is stored: API keys, browser sessions, tokens of links.

The hash is one round of sha256. A slow, salted hash protects passwords, because people choose what can be guessed;
these have 285 bits of randomness, which no amount of computing guesses. So every request can afford the look-up.
"""

import hashlib
import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 48
"""Random characters after the prefix: 48 of 62 are 285 bits."""
_PASSWORD_LENGTH = 24


def generate_secret(prefix: str) -> str:
    """Return a new secret: the prefix and 48 random letters and digits."""
    return prefix + _random(_LENGTH)


def generate_password() -> str:
    """Return 24 random letters and digits, 142 bits."""
    return _random(_PASSWORD_LENGTH)


def hash_secret(secret: str) -> str:
    """Return the sha256 of a secret, hex, by which it is stored and looked up."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
