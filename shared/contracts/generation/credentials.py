"""Messages and values owned by `generation`: the provider keys of an organisation."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Command, Done, Query
from shared.contracts.permissions import MANAGE_KEYS, Permission
from shared.contracts.value import Value


class ProviderKey(Value):
    """A stored provider key without the key itself, which no message returns."""

    name: str
    """As in `provider_api_keys`: a provider, or `openai_azure_endpoint`."""
    tail: str
    """The last four characters; empty if the key is too short to show any."""
    changed_at: datetime
    changed_by: str
    """Email address."""


class SetProviderKey(Command[ProviderKey]):
    """Store a provider key, used for the organisation's calls that bring none. Raises Invalid (no such provider)."""

    subject: ClassVar[str] = "generation.set_provider_key"
    permission: ClassVar[Permission | None] = MANAGE_KEYS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("provider_key.set",)

    name: str
    sealed: str = Field(repr=False)
    """`{"key": …}`, encrypted (shared/encryption.py)."""


class DeleteProviderKey(Command[Done]):
    """Delete a provider key. Raises NotFound."""

    subject: ClassVar[str] = "generation.delete_provider_key"
    permission: ClassVar[Permission | None] = MANAGE_KEYS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("provider_key.deleted",)

    name: str


class ProviderKeys(Value):
    """Provider keys, sorted by name."""

    keys: list[ProviderKey]


class ListProviderKeys(Query[ProviderKeys]):
    """Return the provider keys of the organisation."""

    subject: ClassVar[str] = "generation.list_provider_keys"
    permission: ClassVar[Permission | None] = MANAGE_KEYS
