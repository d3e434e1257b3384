"""Encrypts stored provider keys and tool secrets anew after EVERLOOP_SECRET was replaced: the old one can go then."""

import logging
from collections.abc import AsyncIterator
from typing import Protocol

from services.generation.store import Stores
from shared.encryption import SecretBox
from shared.errors import Internal

logger = logging.getLogger(__name__)


class _Encrypted(Protocol):
    def ciphertexts(self) -> AsyncIterator[tuple[str, str]]: ...
    async def replace_ciphertext(self, identifier: str, old: str, new: str, /) -> bool: ...


async def rotate_stored_secrets(stores: Stores, secret_box: SecretBox) -> None:
    """Encrypt with the newest secret whatever is stored under another one. What is changed meanwhile, by users or by
    another replica doing the same, stays as changed. What no known secret decrypts is logged as an error and left.
    """
    await _rotate("provider keys", stores.credentials, secret_box)
    await _rotate("tool secrets", stores.tools, secret_box)


async def _rotate(what: str, store: _Encrypted, secret_box: SecretBox) -> None:
    encrypted_anew, undecryptable = 0, []
    async for identifier, old in store.ciphertexts():
        try:
            new = secret_box.rotate(old)
        except Internal:
            undecryptable.append(identifier)
            continue
        if new is not None:
            encrypted_anew += await store.replace_ciphertext(identifier, old, new)
    if encrypted_anew:
        logger.info("%d %s were encrypted anew with the newest EVERLOOP_SECRET", encrypted_anew, what)
    if undecryptable:
        logger.error(
            "%d %s cannot be decrypted: neither EVERLOOP_SECRET nor EVERLOOP_SECRET_FALLBACKS fits. Add the secret "
            "they were stored with to EVERLOOP_SECRET_FALLBACKS, or have them entered again",
            len(undecryptable),
            what,
            extra={"ids": undecryptable},
        )
