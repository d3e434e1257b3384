"""Messages and values of `authz`: API keys."""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from shared import ids
from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Command, Done, Query
from shared.contracts.permissions import MANAGE_KEYS, Permission
from shared.contracts.principal import Role
from shared.contracts.value import Value


class Key(Value):
    """An API key without its secret."""

    id: str
    name: str
    tail: str
    """The last four characters of the secret."""
    role: Role
    """The effective role: never more than its creator has now."""
    creator_id: str
    """User id."""
    creator: str
    """Email address."""
    created_at: datetime
    revoked_at: datetime | None = None
    """None: it is valid, until it expires."""
    expires_at: datetime | None = None
    """None: never."""
    last_used_at: datetime | None = None
    """To half a minute. None: never, or not since this is kept."""
    projects: list[str] | None = None
    """Ids of the projects it is limited to. None: all."""


class NewKey(Value):
    """The answer to `CreateKey`, the only message with the secret."""

    id: str
    name: str
    secret: str = Field(repr=False)
    tail: str
    role: Role
    expires_at: datetime | None = None
    projects: list[str] | None = None
    """Ids of the projects it is limited to. None: all."""


class CreateKey(Command[NewKey]):
    """Create an API key. A repeat with the same `id` is the same key with a new secret: the first was never received.

    Raises Denied, Invalid (name; it would have expired already), Conflict (a valid key has this name).
    """

    subject: ClassVar[str] = "authz.create_key"
    permission: ClassVar[Permission | None] = MANAGE_KEYS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("api_key.created",)

    id: str = Field(default_factory=lambda: ids.mint("key"))
    name: str
    """1 to 100 characters; cannot be changed later."""
    role: Role | None = None
    """Reduced to the role of the principal if that is less. None: Developer, reduced in the same way."""
    expires_at: datetime | None = None
    """From then on it is refused. None: it does not expire."""
    projects: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None
    """Ids of the projects it is limited to, which the sender has checked to exist. None: all."""


class Keys(Value):
    """API keys, newest first, revoked ones included."""

    keys: list[Key]


class ListKeys(Query[Keys]):
    """Return the organisation's API keys. Raises Denied."""

    subject: ClassVar[str] = "authz.list_keys"
    permission: ClassVar[Permission | None] = MANAGE_KEYS


class RevokeKey(Command[Done]):
    """Revoke an API key for good. Raises Denied, NotFound."""

    subject: ClassVar[str] = "authz.revoke_key"
    permission: ClassVar[Permission | None] = MANAGE_KEYS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("api_key.revoked",)

    id: str
