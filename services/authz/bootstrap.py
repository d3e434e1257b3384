"""The first organisation of an installation, its Admin and an API key, from a file that `everloop up` writes.

Later starts only compare: what people changed since (a revoked key, another password) is never undone by the file.
"""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr, StringConstraints, ValidationError

from services.authz import keys, passwords
from services.authz.organisations import Organisation
from services.authz.store import Store
from shared import ids

logger = logging.getLogger(__name__)

KEY_NAME = "First key"
_KEY = StringConstraints(pattern=r"^hl_[A-Za-z0-9_-]{32,}$")


class First(BaseModel):
    """What the file says; other fields are others' business."""

    email: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, pattern=r"^[^@\s]+@[^@\s]+$")]
    password: SecretStr = Field(min_length=1)
    api_key: Annotated[str, _KEY]
    """`hl_` and at least 32 characters: it is stored under a fast hash, so it must not be guessable."""


async def first_organisation(path: Path | None, store: Store) -> None:
    """Make the first organisation if there is none. Two replicas may do this at once, or one again after a crash."""
    if await store.has_organisation():
        await _compare(path, store)
    elif path is None:
        logger.warning("there is no organisation, and EVERLOOP_BOOTSTRAP_FILE names no file to make one from")
    else:
        await _create(await asyncio.to_thread(read, path), store)


def read(path: Path) -> First:
    """The file's content. ValueError with a sentence for the operator, never with what is secret in the file."""
    try:
        return First.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"EVERLOOP_BOOTSTRAP_FILE {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, item["loc"])) or "the whole file" for item in error.errors())
        raise ValueError(
            f"EVERLOOP_BOOTSTRAP_FILE {path} must be JSON with an email, a password, and an api_key of hl_ and at "
            f"least 32 letters or digits. Wrong: {wrong}"
        ) from None


async def _create(first: First, store: Store) -> None:
    installation = await store.get_installation()
    user_id = ids.derive("usr", installation, "first")
    organisation = Organisation(ids.derive("tm", installation, "first"), roles={user_id: "Admin"}, revision=1)
    key = keys.StoredKey(
        id=ids.derive("key", installation, "first"),
        organisation=organisation.id,
        name=KEY_NAME,
        hash=keys.hash_of(first.api_key),
        tail=keys.tail_of(first.api_key),
        role="Admin",
        creator_id=user_id,
        created_at=datetime.now(UTC),
    )
    password_hash = await asyncio.to_thread(passwords.hash_of, first.password.get_secret_value())
    await store.save_first(organisation, key, first.email, password_hash)
    logger.info("the first organisation was made", extra={"organisation": organisation.id, "admin": first.email})


async def _compare(path: Path | None, store: Store) -> None:
    """Say so if the file's key opens nothing; a file that is gone is no news, removing it is good practice."""
    if path is None or not await asyncio.to_thread(path.is_file):
        return
    try:
        first = await asyncio.to_thread(read, path)
    except ValueError as error:
        logger.warning("%s", error)
        return
    if not await store.is_key_in_use(keys.hash_of(first.api_key)):
        logger.warning(
            "the API key in %s opens nothing: it was revoked, or the file was changed after the first start; "
            "the organisation stays as it is",
            path,
        )
