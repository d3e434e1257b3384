"""API keys: made at random, kept as a hash, named for good.

The hash is one round of sha256. A slow, salted hash protects what people choose, because that can be guessed; a key
has 285 bits of randomness, which no amount of computing guesses. So every request can afford the look-up by hash.
"""

import hashlib
import secrets
import string
from dataclasses import dataclass
from datetime import datetime

from services.authz.access import lower
from shared.contracts.principal import Role
from shared.errors import Invalid

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 48
_TAIL = 4
_LONGEST_NAME = 100


@dataclass(frozen=True)
class StoredKey:
    """What is kept of a key."""

    id: str
    organisation: str
    name: str
    hash: str
    """sha256 of the secret, hex."""
    tail: str
    role: Role
    """The most it ever gives; its creator's role of the moment may give less."""
    creator_id: str
    created_at: datetime
    revoked_at: datetime | None = None


def mint() -> str:
    """A new secret: `hl_` and 48 random letters and digits."""
    return "hl_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def hash_of(secret: str) -> str:
    """What is stored, and looked up, instead of the secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def tail_of(secret: str) -> str:
    """What is shown of the secret later, so that people can tell their keys apart."""
    return secret[-_TAIL:]


def named(name: str) -> str:
    """`name` as it will be kept. Invalid when it is empty or too long."""
    kept = name.strip()
    if not 0 < len(kept) <= _LONGEST_NAME:
        raise Invalid(f"The name of an API key has 1 to {_LONGEST_NAME} characters.")
    return kept


def role_for(wanted: Role | None, creator: Role) -> Role:
    """The role of a new key: what was wanted, Developer if nothing was, and never more than its creator has."""
    return lower(wanted or "Developer", creator)
