"""Encrypts provider keys and tool secrets, on the bus between gateway and generation and at rest."""

import base64
import binascii
import json

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from shared.errors import Internal
from shared.settings import EncryptionSettings


class SecretBox:
    """Encrypts with the newest secret and decrypts with any that is known (Fernet: AES-128-CBC and HMAC-SHA256)."""

    def __init__(self, secret: SecretStr, fallbacks: SecretStr | None = None) -> None:
        """`fallbacks` are comma-separated and only decrypt. Raises ValueError if a secret is not 32 bytes in base64."""
        self._newest = _fernet(secret.get_secret_value(), "EVERLOOP_SECRET")
        others = fallbacks.get_secret_value().split(",") if fallbacks else ()
        older = [_fernet(text.strip(), "EVERLOOP_SECRET_FALLBACKS") for text in others if text.strip()]
        self._known = MultiFernet([self._newest, *older])

    @classmethod
    def from_settings(cls, settings: EncryptionSettings) -> "SecretBox":
        """Return a box with the secrets of the settings."""
        return cls(settings.secret, settings.secret_fallbacks)

    def encrypt(self, values: dict[str, str]) -> str:
        """Return the values as ciphertext (URL-safe base64); two calls never return the same."""
        return self._newest.encrypt(json.dumps(values).encode()).decode()

    def decrypt(self, ciphertext: str) -> dict[str, str]:
        """Return the values. Raises Internal if they were encrypted with an unknown secret, or are damaged."""
        try:
            values: dict[str, str] = json.loads(self._known.decrypt(ciphertext.encode()))
        except InvalidToken as error:
            raise _undecryptable() from error
        return values

    def rotate(self, ciphertext: str) -> str | None:
        """Return the same values encrypted with the newest secret, or None if they are already. Raises as `decrypt`."""
        try:
            self._newest.decrypt(ciphertext.encode())
        except InvalidToken:
            try:
                return self._known.rotate(ciphertext.encode()).decode()
            except InvalidToken as error:
                raise _undecryptable() from error
        return None


def _fernet(text: str, setting: str) -> Fernet:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise ValueError(f"{setting} must be 32 random bytes as URL-safe base64 (44 characters)")
    return Fernet(base64.urlsafe_b64encode(raw))


def _undecryptable() -> Internal:
    return Internal("Provider keys were encrypted with another EVERLOOP_SECRET.")
