"""Owned by `authz`: who is calling, and may they."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from shared import ids
from shared.contracts.message import Command, Done, Event, Query, Value

Role = Literal["Admin", "Developer", "Member"]


class Author(Value):
    """Who did something, as it is remembered after they are gone."""

    user_id: str
    email: str


class Caller(Value):
    """Who sent a request."""

    organisation: str
    role: Role
    """The effective role of the key: never more than its creator has."""
    key_id: str
    user_id: str
    email: str

    @property
    def author(self) -> Author:
        """The person, for what will be remembered of them."""
        return Author(user_id=self.user_id, email=self.email)


class Authenticate(Query[Caller]):
    """The caller behind an API key. Errors: Unauthenticated (unknown or revoked)."""

    subject: ClassVar[str] = "authz.who_is_this"

    key_hash: str
    """sha256 of the key, hex: the key itself stays in the gateway."""


class Decision(Value):
    """Whether something is allowed, and why not."""

    allowed: bool
    reason: str
    """A sentence for the caller when refused, else empty."""


class Authorize(Query[Decision]):
    """Whether the caller's role has a permission (a name of `shared/permissions.py`). Errors: Invalid (no such)."""

    subject: ClassVar[str] = "authz.may_they"

    caller: Caller
    permission: str


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

    organisation: str
    by: Caller
    id: str = Field(default_factory=lambda: ids.mint("key"))
    name: str
    """1 to 100 characters; cannot be changed later."""
    role: Role | None = None
    """Cut down to the role of `by`. None: Developer, or the role of `by` if that is less."""


class Keys(Value):
    """API keys, newest first, the revoked ones too."""

    keys: list[Key]


class ListKeys(Query[Keys]):
    """The organisation's API keys. Errors: Denied."""

    subject: ClassVar[str] = "authz.list_keys"

    organisation: str
    by: Caller


class RevokeKey(Command[Done]):
    """Make an API key useless for good. Errors: Denied, NotFound."""

    subject: ClassVar[str] = "authz.revoke_key"

    organisation: str
    by: Caller
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

    organisation: str


class ChangeRole(Command[Member]):
    """Give a member another role. Their keys never have more than it, from the next request on.

    Errors: Denied, NotFound (no such member), Conflict (the last Admin).
    """

    subject: ClassVar[str] = "authz.change_role"

    organisation: str
    by: Caller
    user_id: str
    role: Role


class AccessChanged(Event):
    """A key, a role or a membership changed: what was remembered about the organisation's callers is void."""

    noun: ClassVar[str] = "access"
    happened: ClassVar[str] = "changed"

    what: str
    """`key created`, `key revoked` or `role changed`. Open: whatever it is, the same is void."""
