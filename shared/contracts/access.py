"""Owned by `authz`: who is calling, and may they."""

from typing import ClassVar, Literal

from shared.contracts.message import Event, Query, Value

Role = Literal["Admin", "Developer", "Member"]


class Caller(Value):
    """Who sent a request."""

    organisation: str
    role: Role
    """The effective role of the key: never more than its creator has."""
    key_id: str
    user_id: str
    email: str


class WhoIsThis(Query[Caller]):
    """The caller behind an API key. Errors: Unauthenticated (unknown or revoked)."""

    subject: ClassVar[str] = "authz.who_is_this"

    key_hash: str
    """sha256 of the key, hex: the key itself stays in the gateway."""


class Decision(Value):
    """Whether something is allowed, and why not."""

    allowed: bool
    reason: str
    """A sentence for the caller when refused, else empty."""


class MayThey(Query[Decision]):
    """Whether the caller's role has a permission (a name of `shared/permissions.py`). Errors: Invalid (no such)."""

    subject: ClassVar[str] = "authz.may_they"

    caller: Caller
    permission: str


class AccessChanged(Event):
    """A key, a role or a membership changed: what was remembered about the organisation's callers is void."""

    noun: ClassVar[str] = "access"
    happened: ClassVar[str] = "changed"

    what: Literal["organisation created", "key created", "key revoked", "role changed", "member removed"]
