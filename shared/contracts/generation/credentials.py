"""Owned by `generation`: the keys of providers that an organisation keeps here."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from shared.contracts.message import Command, Done, Query
from shared.contracts.value import Value


class ProviderKey(Value):
    """A stored key as people see it; the key itself is never told again."""

    name: str
    """As in `provider_api_keys`: a provider, or `openai_azure_endpoint`."""
    tail: str
    """The last four characters, or nothing of a short one."""
    changed_at: datetime
    changed_by: str
    """Email address."""


class SetProviderKey(Command[ProviderKey]):
    """Keep a key for all calls of the organisation that bring none. Errors: Invalid (no such provider)."""

    subject: ClassVar[str] = "generation.set_provider_key"

    name: str
    sealed: str = Field(repr=False)
    """`{"key": …}`, encrypted (shared/encryption.py)."""


class DeleteProviderKey(Command[Done]):
    """Forget a key. Errors: NotFound."""

    subject: ClassVar[str] = "generation.delete_provider_key"

    name: str


class ProviderKeys(Value):
    """All of them, by name."""

    keys: list[ProviderKey]


class ListProviderKeys(Query[ProviderKeys]):
    """The keys an organisation keeps."""

    subject: ClassVar[str] = "generation.list_provider_keys"
