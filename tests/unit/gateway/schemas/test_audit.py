"""The audit log over HTTP: cursors, and its form as a table."""

import csv
import io
from datetime import UTC, datetime

import pytest

from services.gateway.schemas.access.audit import AuditPageQuery, csv_header, csv_of, entry_response, page_response
from shared.contracts.audit import AuditEntries, AuditEntry, AuditObject, AuditPosition
from shared.contracts.principal import Actor, Principal
from shared.errors import Invalid

CALLER = Principal(organisation="tm_1", role="Admin", user_id="usr_1")
AT = datetime(2024, 5, 20, 10, 11, 12, 345000, tzinfo=UTC)
POSITION = AuditPosition(at=AT, id="aud_0H5aZ1b2c3d4e5f6g7h8i")


def entry(name: str | None = "desk", email: str | None = "ada@example.org") -> AuditEntry:
    return AuditEntry(
        id=POSITION.id,
        organisation="tm_1",
        at=AT,
        actor=None if email is None else Actor(user_id="usr_1", email=email, key_id="key_1"),
        action="project.renamed",
        object=AuditObject(kind="project", id="pr_1", name=name),
        details={"from": "=1"},
    )


def rows(entries: list[AuditEntry]) -> list[dict[str, str]]:
    text = (csv_header() + csv_of(entries)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_next_page_begins_where_this_one_ended() -> None:
    page = page_response(AuditEntries(entries=[entry()], next=POSITION))
    assert page.next is not None
    query = AuditPageQuery.model_validate({"cursor": page.next, "limit": 7}).to_query(CALLER)
    assert (query.before, query.limit) == (POSITION, 7)
    assert page_response(AuditEntries(entries=[])).next is None


@pytest.mark.parametrize("cursor", ["", "x", "1-aud_short", f"-1-{POSITION.id}", f"1-{POSITION.id} ", "1" * 15])
def test_a_cursor_that_is_none_is_invalid(cursor: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        AuditPageQuery(cursor=cursor, limit=50).to_query(CALLER)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_is_no_formula(start: str) -> None:
    (row,) = rows([entry(name=f"{start}SUM(A1)", email=f"{start}x@example.org")])
    assert (row["object_name"], row["email"]) == (f"'{start}SUM(A1)", f"'{start}x@example.org")


def test_other_cells_are_as_they_are() -> None:
    (row,) = rows([entry(name='a "b", c\nd = e')])
    assert row["object_name"] == 'a "b", c\nd = e'
    assert row["at"] == "2024-05-20T10:11:12.345000+00:00"
    assert row["details"] == '{"from": "=1"}'
    assert (row["address"], row["service"], row["trace_id"]) == ("", "", "")


def test_nobody_who_is_known_leaves_the_columns_of_the_actor_empty() -> None:
    (row,) = rows([entry(email=None)])
    assert {row[name] for name in ("actor_kind", "user_id", "email", "key_id", "service")} == {""}
    assert entry_response(entry(email=None)).actor is None
