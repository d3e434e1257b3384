"""Secrets made up for one run, each of its own, and their search in bytes of any kind."""

import base64
import binascii
import secrets
from collections.abc import Callable
from urllib.parse import quote


class Canaries:
    """Secrets by where they were sent; all that are made here begin alike, so one search finds any of them.

    They are letters and digits, which JSON and percent-encoding leave as they are; quoted ones have signs around those.
    """

    def __init__(self) -> None:
        self._prefix = f"Cn{secrets.token_hex(5)}"
        self.values: dict[str, str] = {}

    def new(self, name: str) -> str:
        """Return a new secret for a place that carries one."""
        value = f"{self._prefix}{len(self.values):03d}{secrets.token_hex(12)}"
        return self.learn(name, value)

    def learn(self, name: str, value: str) -> str:
        """Search for a secret that the stack has made itself, too; return it."""
        assert len(value) >= 20, f"{name} is too short to be searched for"
        self.values[name] = value
        return value

    def found_in(self, content: bytes) -> set[str]:
        """Return the names of the secrets in `content`: as they are, in base64, in hexadecimal, percent-encoded."""
        content = content.replace(b"\0" * 512, b"")  # space that files have reserved
        made = {name: value for name, value in self.values.items() if value.startswith(self._prefix)}
        learned = self.values.items() - made.items()
        found = {name for name, value in learned if _is_in(value, content)}
        if _is_in(self._prefix, content):
            found |= {name for name, value in made.items() if _is_in(value, content)} or {"a part of a secret"}
        return found


def _is_in(value: str, content: bytes) -> bool:
    return any(form in content for form in forms(value))


def forms(value: str) -> set[bytes]:
    """Return how a secret may stand in other bytes: in base64 there are three, by where it begins."""
    raw = value.encode()
    found = {raw, quote(value, safe="").encode(), binascii.hexlify(raw), binascii.hexlify(raw).upper()}
    encoders: tuple[Callable[[bytes], bytes], ...] = (base64.b64encode, base64.urlsafe_b64encode)
    for encode in encoders:
        for before in range(3):
            encoded = encode(b"\0" * before + raw)
            # The characters at both ends depend on the bytes beside it, too.
            found.add(encoded[(0, 2, 3)[before] : len(encoded) - (0, 3, 2)[(before + len(raw)) % 3]])
    return found
