"""Creates the first organisation of an installation, its Admin and an API key from a file that `everloop up` writes.

Later starts change nothing, so the file never undoes what people changed since (a revoked key, another password); they
only warn if the file's key is not active.
"""

import asyncio
import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr, StringConstraints, ValidationError

from services.authz.credentials import keys, passwords
from services.authz.credentials.random_secrets import hash_secret
from services.authz.membership.organisations import Organisation
from services.authz.store import Stores
from shared import ids

logger = logging.getLogger(__name__)

KEY_NAME = "First key"
_KEY = StringConstraints(pattern=r"^hl_[A-Za-z0-9_-]{32,}$")


class BootstrapFile(BaseModel):
    """Content of the bootstrap file; other fields are ignored."""

    email: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, pattern=r"^[^@\s]+@[^@\s]+$")]
    password: SecretStr = Field(min_length=1)
    api_key: Annotated[str, _KEY]
    """`hl_` and at least 32 characters: it is stored as a fast hash, so it must not be guessable."""


async def create_first_organisation(path: Path | None, stores: Stores) -> None:
    """Create the first organisation if there is none. Replicas may do this at once, or one again after a crash.

    Raises ValueError if the file is needed and not valid.
    """
    if await stores.organisations.exists_any():
        await _warn_if_key_is_inactive(path, stores)
    elif path is None:
        logger.warning("there is no organisation, and EVERLOOP_BOOTSTRAP_FILE names no file to make one from")
    else:
        await _insert_organisation(await asyncio.to_thread(read_bootstrap_file, path), stores)


def read_bootstrap_file(path: Path) -> BootstrapFile:
    """Return the file's content. Raises ValueError with a message for the operator that shows no secret of the file."""
    try:
        return BootstrapFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"EVERLOOP_BOOTSTRAP_FILE {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        invalid_fields = ", ".join(".".join(map(str, item["loc"])) or "the whole file" for item in error.errors())
        raise ValueError(
            f"EVERLOOP_BOOTSTRAP_FILE {path} must be JSON with an email, a password, and an api_key of hl_ and at "
            f"least 32 letters or digits. Wrong: {invalid_fields}"
        ) from None


async def _insert_organisation(content: BootstrapFile, stores: Stores) -> None:
    installation = await stores.installation.get()
    user_id = ids.derive("usr", installation.id, "first")
    organisation = Organisation(ids.derive("tm", installation.id, "first"), roles={user_id: "Admin"}, revision=1)
    key = keys.StoredKey(
        id=ids.derive("key", installation.id, "first"),
        organisation=organisation.id,
        name=KEY_NAME,
        hash=hash_secret(content.api_key),
        tail=keys.secret_tail(content.api_key),
        role="Admin",
        creator_id=user_id,
        created_at=installation.created_at,  # one time for all replicas: a key older than the membership is void
    )
    password_hash = await asyncio.to_thread(passwords.hash_password, content.password.get_secret_value())
    await stores.installation.insert_first_organisation(organisation, key, content.email, password_hash)
    logger.info("the first organisation was created", extra={"organisation": organisation.id, "admin": content.email})


async def _warn_if_key_is_inactive(path: Path | None, stores: Stores) -> None:
    """Log a warning if the file's key is not active. A missing file is fine: deleting it is good practice."""
    if path is None or not await asyncio.to_thread(path.is_file):
        return
    try:
        content = await asyncio.to_thread(read_bootstrap_file, path)
    except ValueError as error:
        logger.warning("%s", error)
        return
    if not await stores.keys.is_active(hash_secret(content.api_key)):
        logger.warning(
            "the API key in %s opens nothing: it was revoked, or the file was changed after the first start; "
            "the organisation stays as it is",
            path,
        )
