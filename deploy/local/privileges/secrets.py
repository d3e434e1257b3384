"""The secrets of a stack: generated at its first start and kept in `secrets.json` and `credentials.json`."""

import base64
import secrets
import string
from dataclasses import asdict, dataclass, replace

from deploy.local.errors import CommandError
from deploy.local.folder import Folder, write_private

BUS_USERS = ("operator", "gateway", "generation", "logging", "evaluation", "authz")
MONGO_USERS = ("operator", "generation", "logging", "evaluation", "authz")
EMAIL = "admin@everloop.local"
_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Secrets:
    """Content of `secrets.json`. Only the supervisor knows all of it; each process is given its own part."""

    secret: str
    """32 random bytes, URL-safe base64: encrypts provider keys and tool secrets. Without it they are lost."""
    secret_fallbacks: list[str]
    """Earlier secrets, the newest first; they only decrypt."""
    fallbacks_in_use: bool
    """Whether something stored may be encrypted with one of them: no stack has been ready since the last rotation."""
    bus_passwords: dict[str, str]
    mongo_passwords: dict[str, str]
    mongo_key: str
    """Content of mongod's key file, with which `servers.replica_set` logs in to create the users."""

    def rotated(self) -> "Secrets":
        """Return a copy with a new secret to encrypt with; the present one only decrypts."""
        fallbacks = [self.secret, *self.secret_fallbacks]
        return replace(self, secret=_generate_secret(), secret_fallbacks=fallbacks, fallbacks_in_use=True)

    def with_unused_fallbacks(self) -> "Secrets":
        """Return a copy for when generation has started: it has encrypted everything with the new secret by then."""
        return replace(self, fallbacks_in_use=False)

    def without_fallbacks(self) -> "Secrets":
        """Return a copy with the newest secret alone."""
        return replace(self, secret_fallbacks=[])

    def save(self, folder: Folder) -> None:
        """Write them to `secrets.json`, unless it holds them already."""
        if asdict(self) != folder.secrets:
            folder.secrets = asdict(self)

    @classmethod
    def load_or_create(cls, folder: Folder) -> "Secrets":
        """Return those of the folder; what it lacks is generated and saved."""
        stored = folder.secrets
        bus, mongo = stored.get("bus_passwords", {}), stored.get("mongo_passwords", {})
        if not (isinstance(bus, dict) and isinstance(mongo, dict) and isinstance(stored.get("secret", ""), str)):
            raise CommandError(f"secrets.json in {folder.path} is damaged. Restore it from a backup.")
        loaded = cls(
            secret=stored.get("secret") or _generate_secret(),
            secret_fallbacks=stored.get("secret_fallbacks", []),
            fallbacks_in_use=stored.get("fallbacks_in_use", False),
            bus_passwords={user: bus.get(user) or _generate_password() for user in BUS_USERS},
            mongo_passwords={user: mongo.get(user) or _generate_password() for user in MONGO_USERS},
            mongo_key=stored.get("mongo_key") or _random_alphanumeric(64),
        )
        loaded.save(folder)
        return loaded


def write_credentials(folder: Folder, url: str) -> str:
    """Create `credentials.json`, or update its URL; returns the API key in it.

    authz creates the first organisation, its administrator and this key from the file when its database is empty.
    """
    stored = folder.read_credentials()
    credentials = {
        "url": url,
        "email": stored.get("email") or EMAIL,
        "password": stored.get("password") or secrets.token_urlsafe(18),
        "api_key": stored.get("api_key") or "hl_" + _random_alphanumeric(48),
    }
    if credentials != stored:
        write_private(folder.credentials, credentials)
    return credentials["api_key"]


def _generate_secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _generate_password() -> str:
    """Return 40 characters, a letter first: NATS would read anything else in a variable as a number or as syntax."""
    return secrets.choice(string.ascii_letters) + _random_alphanumeric(39)


def _random_alphanumeric(count: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(count))
