"""Decoding messages of `LOGS`: an invalid record is rejected alone."""

import json
from datetime import UTC

from services.logging.decoding import Decoded, Entry, decode_message, first_of_each_id
from shared.audit import audit_entry
from shared.contracts.audit import AuditObject
from shared.contracts.logs import INTAKE, Audited, LogRecord, SessionOpened
from tests.unit.logging.builders import START, entries, feedback, log, update


def test_records_are_sorted_by_kind_and_keep_their_position() -> None:
    decoded = Decoded.empty()
    opened = SessionOpened(id="sesh_1", organisation="tm_1", created_at=START)
    decode_message(3, INTAKE.dump_json([log("a"), update("a", output="x"), opened]), decoded)
    audited = Audited(entry=audit_entry("logs.deleted", None, "tm_1", AuditObject(kind="log")))
    decode_message(4, INTAKE.dump_json([log("b"), feedback(trace="the request's"), audited]), decoded)
    assert [(entry.position, entry.record.id) for entry in decoded.logs] == [(300_000, "a"), (400_000, "b")]
    assert [entry.position for entry in decoded.updates] == [300_001]
    assert [entry.position for entry in decoded.sessions] == [300_002]
    assert [entry.position for entry in decoded.feedback] == [400_001]
    assert list(decoded.traceparents()) == ["the request's"]
    assert decoded.audited == [Entry(400_002, audited)]
    assert decoded.size == 6


def test_an_invalid_record_is_rejected_alone_with_a_payload_that_can_be_resent() -> None:
    decoded = Decoded.empty()
    good = json.loads(log("good").model_dump_json())
    bad = good | {"created_at": "yesterday", "metadata": {"note": "\ud800"}}
    decode_message(1, json.dumps([good, bad, 5, good | {"id": "other"}]).encode(), decoded)
    assert [entry.record.id for entry in decoded.logs] == ["good", "other"]
    assert [entry.position for entry in decoded.logs] == [100_000, 100_003]
    assert [record.position for record in decoded.rejected] == [100_001, 100_002]
    assert "created_at" in decoded.rejected[0].reason
    assert "yesterday" not in decoded.rejected[0].reason
    assert json.loads(decoded.rejected[0].payload) == [bad]


def test_a_message_that_is_no_json_array_is_rejected_whole() -> None:
    for payload in (b"\xff\xfe", b"", b"{}", b"[" * 100_000):
        decoded = Decoded.empty()
        decode_message(2, payload, decoded)
        assert [(record.position, record.payload) for record in decoded.rejected] == [(200_000, payload)]
        assert not decoded.logs


def test_a_time_without_a_zone_is_utc() -> None:
    decoded = Decoded.empty()
    naive = START.replace(tzinfo=None)
    record = feedback().model_copy(update={"at": naive, "created_at": naive})
    decode_message(
        1, INTAKE.dump_json([log(created_at=naive), update().model_copy(update={"at": naive}), record]), decoded
    )
    assert decoded.logs[0].record.created_at == START
    assert decoded.updates[0].record.at.tzinfo is UTC
    assert decoded.feedback[0].record.created_at == START
    assert decoded.feedback[0].record.at.tzinfo is UTC


def test_of_several_logs_with_one_id_the_first_is_kept_in_each_organisation() -> None:
    logs: list[Entry[LogRecord]] = entries(log("a", output="1"), log("a", output="2"), log("a", organisation="tm_2"))
    kept = first_of_each_id(logs)
    assert [(entry.record.organisation, entry.record.output) for entry in kept] == [("tm_1", "1"), ("tm_2", None)]
