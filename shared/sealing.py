"""Encryption of provider keys: on the bus between gateway and generation, and at rest."""

import base64
import binascii
import json

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from shared.errors import Internal


class Seal:
    """Encrypts and authenticates with the installation's secret (Fernet: AES-128-CBC and HMAC-SHA256)."""

    def __init__(self, secret: SecretStr) -> None:
        text = secret.get_secret_value()
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            raw = b""
        if len(raw) != 32:
            raise ValueError("EVERLOOP_SECRET must be 32 random bytes as URL-safe base64 (44 characters)")
        self._fernet = Fernet(base64.urlsafe_b64encode(raw))

    def close(self, values: dict[str, str]) -> str:
        """Encrypt; two calls never give the same text."""
        return self._fernet.encrypt(json.dumps(values).encode()).decode()

    def open(self, sealed: str) -> dict[str, str]:
        """Decrypt what `close` gave under the same secret."""
        try:
            opened: dict[str, str] = json.loads(self._fernet.decrypt(sealed.encode()))
        except InvalidToken as error:
            raise Internal("Provider keys were sealed with another EVERLOOP_SECRET.") from error
        return opened
