"""What is drawn at random at the first start and kept from then on."""

import base64
import secrets
import string
from dataclasses import asdict, dataclass, replace

from deploy.local.folder import Folder, write_private

BUS_USERS = ("operator", "gateway", "generation", "logging", "evaluation", "authz")
MONGO_USERS = ("operator", "generation", "logging", "evaluation", "authz")
EMAIL = "admin@everloop.local"
_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Secrets:
    """Known to the supervisor alone; every service is given its own part."""

    secret: str
    """32 random bytes, URL-safe base64: provider keys are encrypted with it. Losing it loses them."""
    secret_fallbacks: list[str]
    """Secrets of before the last rotations; they only decrypt."""
    fallbacks_in_use: bool
    """Whether something may still be encrypted with one of them: no stack has come up since the last rotation."""
    bus_passwords: dict[str, str]
    mongo_passwords: dict[str, str]
    mongo_key: str
    """Content of mongod's key file: with it the stack makes the users."""

    def rotated(self) -> "Secrets":
        """With a new secret that encrypts from now on; the old one only decrypts."""
        fallbacks = [self.secret, *self.secret_fallbacks]
        return replace(self, secret=_secret(), secret_fallbacks=fallbacks, fallbacks_in_use=True)

    def with_unused_fallbacks(self) -> "Secrets":
        """When generation has come up: it has encrypted everything anew by then."""
        return replace(self, fallbacks_in_use=False)

    def without_fallbacks(self) -> "Secrets":
        """With the newest secret alone."""
        return replace(self, secret_fallbacks=[])

    def keep(self, folder: Folder) -> None:
        """Write them into the folder."""
        if asdict(self) != folder.secrets:
            folder.secrets = asdict(self)

    @classmethod
    def of(cls, folder: Folder) -> "Secrets":
        """Those of the folder, drawn now if it has none."""
        kept = folder.secrets
        bus, mongo = kept.get("bus_passwords", {}), kept.get("mongo_passwords", {})
        found = cls(
            secret=kept.get("secret") or _secret(),
            secret_fallbacks=kept.get("secret_fallbacks", []),
            fallbacks_in_use=kept.get("fallbacks_in_use", False),
            bus_passwords={user: bus.get(user) or _password() for user in BUS_USERS},
            mongo_passwords={user: mongo.get(user) or _password() for user in MONGO_USERS},
            mongo_key=kept.get("mongo_key") or _letters(64),
        )
        found.keep(folder)
        return found


def keep_credentials(folder: Folder, url: str) -> str:
    """See that `credentials.json` exists and names `url`; returns the API key in it.

    authz makes the first organisation from this file, so what it says is what opens the door.
    """
    kept = folder.read_credentials()
    wanted = {
        "url": url,
        "email": kept.get("email") or EMAIL,
        "password": kept.get("password") or secrets.token_urlsafe(18),
        "api_key": kept.get("api_key") or "hl_" + _letters(48),
    }
    if wanted != kept:
        write_private(folder.credentials, wanted)
    return wanted["api_key"]


def _secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _password() -> str:
    """A letter first, then letters and digits: NATS would read anything else as a number or as syntax."""
    return secrets.choice(string.ascii_letters) + _letters(39)


def _letters(count: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(count))
