"""The rule for kept secrets: one is sent only to the address it was given for, whoever changes the address.

Who may change an address must not be able to send a secret, which nobody is shown again, to a server of their own.
Secrets of tools go by origin, keys of providers by the whole base URL: servers that many share (gateways for models)
tell their customers apart by the path.
"""

from urllib.parse import urlsplit

from shared.errors import Invalid


def moved_secret(field: str, secret: str, remedy: str) -> Invalid:
    """Return the error for a kept `secret` that would go elsewhere, because of `field`."""
    return Invalid(f"{field} leads to another server, which does not get the stored {secret}: {remedy}.")


def canonical_base_url(url: str) -> str:
    """Return a base URL in the one form in which equal ones are equal: without query, default port and last slash."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    port = parts.port or {"https": 443, "http": 80}.get(scheme)
    return f"{scheme}://{parts.hostname}:{port}{parts.path.rstrip('/')}"


class StoredKey(str):
    """A provider key that an organisation keeps."""

    __slots__ = ("address",)
    address: str | None
    """The canonical base URL it was given for; None if its provider had none at that time."""

    def __new__(cls, key: str, address: str | None) -> "StoredKey":
        """Return the key with its address."""
        stored = super().__new__(cls, key)
        stored.address = address
        return stored
