"""API keys: what is stored of them, and which a member may create."""

from dataclasses import dataclass
from datetime import datetime

from services.authz.credentials.random_secrets import generate_secret
from services.authz.membership.access import lower_role
from shared.contracts.principal import Role
from shared.errors import Invalid

_PREFIX = "hl_"
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
    projects: tuple[str, ...] | None = None
    """Ids of the projects it is limited to. None: all."""


def generate_key() -> str:
    """Return the secret of a new key: `hl_` and 48 random letters and digits."""
    return generate_secret(_PREFIX)


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
