"""Owned by `authz`: who is calling, and may they."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from shared import ids
from shared.contracts.message import Command, Done, Event, Query, SystemQuery
from shared.contracts.principal import Principal, Role
from shared.contracts.value import Value


class Authenticate(SystemQuery[Principal]):
    """Return the principal behind an API key. Raises Unauthenticated if it is unknown or revoked."""

    subject: ClassVar[str] = "authz.authenticate"

    key_hash: str
    """sha256 of the key, hex: the key itself stays in the gateway."""


class Key(Value):
    """An API key as people see it after it was made."""

    id: str
    name: str
    tail: str
    """The last four characters of the secret."""
    role: Role
    """The effective role: never more than its creator has now."""
    creator_id: str
    creator: str
    """Email address."""
    created_at: datetime
    revoked_at: datetime | None = None
    """None: it works."""


class NewKey(Value):
    """The answer to `CreateKey`, and the only place where the secret ever appears."""

    id: str
    name: str
    secret: str = Field(repr=False)
    tail: str
    role: Role


class CreateKey(Command[NewKey]):
    """Make an API key. A repeat with the same `id` is the same key with a new secret: the first was never received.

    Errors: Denied, Invalid (name), Conflict (a key that works has this name).
    """

    subject: ClassVar[str] = "authz.create_key"

    id: str = Field(default_factory=lambda: ids.mint("key"))
    name: str
    """1 to 100 characters; cannot be changed later."""
    role: Role | None = None
    """Cut down to the role of the principal. None: Developer, or the principal's role if that is less."""


class Keys(Value):
    """API keys, newest first, the revoked ones too."""

    keys: list[Key]


class ListKeys(Query[Keys]):
    """The organisation's API keys. Errors: Denied."""

    subject: ClassVar[str] = "authz.list_keys"


class RevokeKey(Command[Done]):
    """Make an API key useless for good. Errors: Denied, NotFound."""

    subject: ClassVar[str] = "authz.revoke_key"

    id: str


class Member(Value):
    """Someone who belongs to an organisation."""

    user_id: str
    email: str
    role: Role
    full_name: str | None = None


class Members(Value):
    """Members, by email address."""

    members: list[Member]


class ListMembers(Query[Members]):
    """Everyone in the organisation. Errors: NotFound."""

    subject: ClassVar[str] = "authz.list_members"


class ChangeRole(Command[Member]):
    """Give a member another role. Their keys never have more than it, from the next request on.

    Errors: Denied, NotFound (no such member), Conflict (the last Admin).
    """

    subject: ClassVar[str] = "authz.change_role"

    user_id: str
    role: Role


class AccessChanged(Event):
    """A key, a role or a membership changed: what was remembered about the organisation's callers is void."""

    noun: ClassVar[str] = "access"
    happened: ClassVar[str] = "changed"

    what: str
    """`key created`, `key revoked` or `role changed`. Open: whatever it is, the same is void."""
