"""Encrypts stored provider keys and tool secrets with the newest EVERLOOP_SECRET, so that older ones can be removed."""

import logging
from collections.abc import AsyncIterator
from typing import Protocol

from services.generation.store import Stores
from shared.encryption import SecretBox
from shared.errors import Internal

logger = logging.getLogger(__name__)


class _EncryptedStore(Protocol):
    """A store with encrypted values: those of `credentials` and `tools`."""

    def ciphertexts(self) -> AsyncIterator[tuple[str, str]]: ...
    async def replace_ciphertext(self, identifier: str, old: str, new: str, /) -> bool: ...


async def rotate_stored_secrets(stores: Stores, secret_box: SecretBox) -> None:
    """Encrypt with the newest secret what is stored encrypted with an older one.

    A value that a user or another replica replaces meanwhile is not overwritten. Values that no known secret decrypts
    are logged as an error and stay as they are.
    """
    await _rotate_store("provider keys", stores.credentials, secret_box)
    await _rotate_store("tool secrets", stores.tools, secret_box)


async def _rotate_store(kind: str, store: _EncryptedStore, secret_box: SecretBox) -> None:
    rotated, undecryptable = 0, []
    async for identifier, old in store.ciphertexts():
        try:
            new = secret_box.rotate(old)
        except Internal:
            undecryptable.append(identifier)
            continue
        if new is not None:
            rotated += await store.replace_ciphertext(identifier, old, new)
    if rotated:
        logger.info("%d %s were encrypted anew with the newest EVERLOOP_SECRET", rotated, kind)
    if undecryptable:
        logger.error(
            "%d %s cannot be decrypted: neither EVERLOOP_SECRET nor EVERLOOP_SECRET_FALLBACKS fits. Add the secret "
            "they were stored with to EVERLOOP_SECRET_FALLBACKS, or have them entered again",
            len(undecryptable),
            kind,
            extra={"ids": undecryptable},
        )
