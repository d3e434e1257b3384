"""API keys: random secrets, of which only a hash is stored.

The hash is one round of sha256. A slow, salted hash protects passwords, because people choose what can be guessed; a
key has 285 bits of randomness, which no amount of computing guesses. So every request can afford the look-up by hash.
"""

import hashlib
import secrets
import string
from dataclasses import dataclass
from datetime import datetime

from services.authz.membership.access import lower_role
from shared.contracts.principal import Role
from shared.errors import Invalid

_ALPHABET = string.ascii_letters + string.digits
_SECRET_LENGTH = 48
"""Random characters after the prefix: 48 of 62 are 285 bits."""
_TAIL_LENGTH = 4
_MAX_NAME_LENGTH = 100


@dataclass(frozen=True)
class StoredKey:
    """An API key as stored, without its secret."""

    id: str
    organisation: str
    name: str
    hash: str
    """sha256 of the secret, hex."""
    tail: str
    """The last 4 characters of the secret."""
    role: Role
    """The highest role the key gives; its creator's current role may lower it."""
    creator_id: str
    created_at: datetime
    revoked_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


def generate_secret() -> str:
    """Return a new secret: `hl_` and 48 random letters and digits."""
    return "hl_" + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))


def hash_secret(secret: str) -> str:
    """Return the sha256 of a secret, hex, by which keys are stored and looked up."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_tail(secret: str) -> str:
    """Return the last 4 characters of a secret, which listings show so that people can tell their keys apart."""
    return secret[-_TAIL_LENGTH:]


def validate_name(name: str) -> str:
    """Return `name` without surrounding white space. Raises Invalid if it is empty or longer than 100 characters."""
    stripped = name.strip()
    if not 0 < len(stripped) <= _MAX_NAME_LENGTH:
        raise Invalid(f"The name of an API key has 1 to {_MAX_NAME_LENGTH} characters.")
    return stripped


def validate_expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    """Return the time a new key expires at. Raises Invalid if that has passed."""
    if expires_at is not None and expires_at <= now:
        raise Invalid("expires_at has passed already: name a time to come, or none for a key that does not expire.")
    return expires_at


def role_of_new_key(requested: Role | None, creator: Role) -> Role:
    """Return the role of a new key: the requested one, by default Developer, but no higher than the creator's."""
    return lower_role(requested or "Developer", creator)
