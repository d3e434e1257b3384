"""Request and response models of the audit log, and its forms as a file."""

import csv
import io
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.gateway.schemas.logs import parse_date
from shared.contracts.audit import MAX_ENTRIES, AuditEntries, AuditEntry, AuditPosition, ListAuditEntries
from shared.contracts.principal import Principal
from shared.errors import Invalid

Text = Annotated[str, Field(min_length=1, max_length=320)]
"""An id or an email address."""
_CURSOR = re.compile(r"(\d{1,14})-(aud_[0-9A-Za-z]{21})")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet runs a cell that begins so as a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""


class AuditQuery(BaseModel):
    """The filters of the audit log. All that are given must match; one that is not known is an error."""

    model_config = ConfigDict(extra="forbid")

    user_id: Text | None = Field(None, description="What this member did, signed in or with an API key.")
    email: Text | None = Field(None, description="As user_id, by the address at that time.")
    key_id: Text | None = Field(None, description="What was done with this API key.")
    action: str | None = Field(
        None,
        pattern=r"^[a-z_]{1,40}(\.[a-z_]{1,40})?$",
        description="An action, `member.role_changed`, or what is before its dot: `member`.",
    )
    object_kind: Text | None = Field(None, description="`project`, `api_key`, `member`, and so on.")
    object_id: Text | None = None
    start: str | None = Field(None, alias="from", max_length=40, description="Date or datetime.")
    end: str | None = Field(None, alias="to", max_length=40, description="Date (that day included) or datetime.")

    def to_query(self, caller: Principal) -> ListAuditEntries:
        """Return the query for authz. Raises Invalid for a bad date."""
        return ListAuditEntries(
            principal=caller,
            user_id=self.user_id,
            email=self.email,
            key_id=self.key_id,
            action=self.action,
            object_kind=self.object_kind,
            object_id=self.object_id,
            start=parse_date("from", self.start),
            end=parse_date("to", self.end, end=True),
        )


class AuditPageQuery(AuditQuery):
    """The filters, and which page."""

    limit: int = Field(50, ge=1, le=MAX_ENTRIES)
    cursor: str | None = Field(None, max_length=60, description="`next` of the page before.")

    def to_query(self, caller: Principal) -> ListAuditEntries:
        """Return the query for authz. Raises Invalid for a bad date or cursor."""
        query = super().to_query(caller)
        return query.model_copy(update={"limit": self.limit, "before": _parse_cursor(self.cursor)})


class AuditExportQuery(AuditQuery):
    """The filters, and the form of the file."""

    format: Literal["jsonl", "csv"] = "jsonl"


class AuditActorResponse(BaseModel):
    """Who did it."""

    kind: Literal["api_key", "member", "service"]
    user_id: str | None
    email: str | None
    key_id: str | None
    service: str | None


class AuditObjectResponse(BaseModel):
    """What was changed."""

    kind: str
    id: str | None
    name: str | None


class AuditEntryResponse(BaseModel):
    """An entry of the audit log."""

    id: str
    at: datetime
    action: str
    actor: AuditActorResponse | None = Field(description="Null: nobody who is known, as at a failed sign-in.")
    address: str | None = Field(description="IP address that the request came from.")
    object: AuditObjectResponse
    details: dict[str, JsonValue]
    trace_id: str | None


class AuditLogResponse(BaseModel):
    """A page of the audit log, newest first."""

    entries: list[AuditEntryResponse]
    next: str | None = Field(description="`cursor` of the next page; null: there is none.")


def entry_response(entry: AuditEntry) -> AuditEntryResponse:
    """Return the response model of an entry."""
    return AuditEntryResponse(
        id=entry.id,
        at=entry.at,
        action=entry.action,
        actor=None if entry.actor is None else AuditActorResponse(**entry.actor.model_dump()),
        address=entry.address,
        object=AuditObjectResponse(**entry.object.model_dump()),
        details=entry.details,
        trace_id=entry.trace,
    )


def page_response(page: AuditEntries) -> AuditLogResponse:
    """Return the response model of a page."""
    following = None if page.next is None else f"{_milliseconds(page.next.at)}-{page.next.id}"
    return AuditLogResponse(entries=[entry_response(entry) for entry in page.entries], next=following)


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _parse_cursor(cursor: str | None) -> AuditPosition | None:
    """Return the position that `page_response` wrote. Raises Invalid."""
    if cursor is None:
        return None
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise Invalid(f"cursor={cursor!r} is none: send the `next` of the page before.")
    return AuditPosition(at=datetime.fromtimestamp(int(parts[1]) / 1000, UTC), id=parts[2])


_COLUMNS = (
    "id", "at", "action", "actor_kind", "user_id", "email", "key_id", "service", "address", "object_kind", "object_id",
    "object_name", "details", "trace_id",
)  # fmt: skip


def jsonl_of(entries: list[AuditEntry]) -> bytes:
    """Return entries as lines of JSON."""
    return b"".join(entry_response(entry).model_dump_json().encode() + b"\n" for entry in entries)


def csv_header() -> bytes:
    """Return the first line of the CSV form, with the names of its columns."""
    return _to_csv([_COLUMNS])


def csv_of(entries: list[AuditEntry]) -> bytes:
    """Return entries as lines of CSV (RFC 4180), in which a spreadsheet finds no formula."""
    return _to_csv([[_cell(value) for value in _row(entry_response(entry))] for entry in entries])


def _row(entry: AuditEntryResponse) -> list[str | None]:
    who = entry.actor
    actor = [None] * 5 if who is None else [who.kind, who.user_id, who.email, who.key_id, who.service]
    return [
        entry.id,
        entry.at.isoformat(),
        entry.action,
        *actor,
        entry.address,
        entry.object.kind,
        entry.object.id,
        entry.object.name,
        json.dumps(entry.details, ensure_ascii=False) if entry.details else None,
        entry.trace_id,
    ]


def _cell(value: str | None) -> str:
    """Return the text of a cell: one that would be a formula begins with an apostrophe, which spreadsheets hide."""
    text = value or ""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _to_csv(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
