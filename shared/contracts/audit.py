"""Messages and values of the audit log (docs/architecture/audit.md): written by the service that makes a change, kept
by `authz`."""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field, JsonValue

from shared.contracts.message import Event, Query
from shared.contracts.permissions import EDIT_ORGANISATION, Permission
from shared.contracts.principal import Actor
from shared.contracts.value import Value

MAX_ENTRIES = 500
"""Of one answer."""


class AuditObject(Value):
    """What was changed."""

    kind: str
    """The noun of what it is, as in paths of the API: `project`, `api_key`, `member`."""
    id: str | None = None
    """None: several, or one that has no id."""
    name: str | None = None
    """At the time of the change: an object may be renamed or deleted later. Of a member, the email address."""


class AuditEntry(Value):
    """One change: who did what to what, when and from where. Never updated."""

    id: str
    """`aud_…`; derived from the change where a command may be repeated, so that it has one entry."""
    organisation: str
    at: datetime
    """When the change was saved, by the clock of the service that made it; to the millisecond."""
    actor: Actor | None = None
    """The member or service, and through which API key. None: nobody who is known, as at a failed sign-in."""
    address: str | None = None
    """IP address of the caller as the gateway saw it. None: a service acted, or the change came from an older one."""
    action: str
    """One of `AuditAction`; a newer service may send one that this version does not know."""
    object: AuditObject
    details: dict[str, JsonValue] = {}
    """What is specific to the action, small and without any secret: from which role to which, how many."""
    trace: str | None = None
    """Trace id of the request, 32 hexadecimal digits."""


class AuditRecorded(Event):
    """A change was audited. The event's id is the entry's, so a repeat is recognised for good."""

    noun: ClassVar[str] = "audit"
    past_participle: ClassVar[str] = "recorded"

    entry: AuditEntry


class AuditPosition(Value):
    """A place in the audit log, which is ordered by time and id."""

    at: datetime
    id: str


class AuditEntries(Value):
    """A page of the audit log, newest first."""

    entries: list[AuditEntry]
    next: AuditPosition | None = None
    """Where the following page begins. None: there is none."""


class ListAuditEntries(Query[AuditEntries]):
    """Return entries of the organisation's audit log that match every filter, newest first."""

    subject: ClassVar[str] = "authz.list_audit_entries"
    permission: ClassVar[Permission | None] = EDIT_ORGANISATION

    user_id: str | None = None
    """Only what this member did, with a key or signed in."""
    email: str | None = None
    """As `user_id`, by the address at the time of the change."""
    key_id: str | None = None
    """Only what was done with this API key."""
    action: str | None = None
    """An action (`member.role_changed`), or its noun (`member`): all actions of that."""
    object_kind: str | None = None
    object_id: str | None = None
    start: datetime | None = None
    """Inclusive."""
    end: datetime | None = None
    """Exclusive."""
    before: AuditPosition | None = None
    """Only older entries than this position: `next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=MAX_ENTRIES)] = 50
