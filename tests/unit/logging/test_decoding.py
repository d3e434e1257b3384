"""Messages of `LOGS` are taken apart; what cannot be read does not take its neighbours along."""

import json
from datetime import UTC

from services.logging.decoding import Entry, decode, first_of_each, nothing
from shared.contracts.logs import INTAKE, LogRecord, SessionOpened
from tests.unit.logging.builders import START, entries, given, log, update


def test_entries_are_sorted_by_kind_and_keep_their_place() -> None:
    decoded = nothing()
    opened = SessionOpened(id="sesh_1", organisation="tm_1", created_at=START)
    decode(3, INTAKE.dump_json([log("a"), update("a", output="x"), opened]), decoded)
    decode(4, INTAKE.dump_json([log("b"), given(trace="the request's")]), decoded)
    assert [(entry.recorded, entry.record.id) for entry in decoded.logs] == [(300_000, "a"), (400_000, "b")]
    assert [entry.recorded for entry in decoded.updates] == [300_001]
    assert [entry.recorded for entry in decoded.sessions] == [300_002]
    assert [entry.recorded for entry in decoded.feedback] == [400_001]
    assert list(decoded.traces()) == ["the request's"]
    assert decoded.size == 5


def test_an_entry_that_cannot_be_read_is_refused_alone_and_could_be_sent_again() -> None:
    decoded = nothing()
    good = json.loads(log("good").model_dump_json())
    bad = good | {"created_at": "yesterday", "metadata": {"note": "\ud800"}}
    decode(1, json.dumps([good, bad, 5, good | {"id": "other"}]).encode(), decoded)
    assert [entry.record.id for entry in decoded.logs] == ["good", "other"]
    assert [entry.recorded for entry in decoded.logs] == [100_000, 100_003]
    assert [one.recorded for one in decoded.refused] == [100_001, 100_002]
    assert "created_at" in decoded.refused[0].reason
    assert "yesterday" not in decoded.refused[0].reason
    assert json.loads(decoded.refused[0].payload) == [bad]


def test_a_message_that_is_no_json_array_is_refused_whole() -> None:
    for payload in (b"\xff\xfe", b"", b"{}", b"[" * 100_000):
        decoded = nothing()
        decode(2, payload, decoded)
        assert [(one.recorded, one.payload) for one in decoded.refused] == [(200_000, payload)]
        assert not decoded.logs


def test_a_time_without_a_zone_is_utc() -> None:
    decoded = nothing()
    naive = START.replace(tzinfo=None)
    said = given().model_copy(update={"at": naive, "created_at": naive})
    decode(1, INTAKE.dump_json([log(created_at=naive), update().model_copy(update={"at": naive}), said]), decoded)
    assert decoded.logs[0].record.created_at == START
    assert decoded.updates[0].record.at.tzinfo is UTC
    assert decoded.feedback[0].record.created_at == START
    assert decoded.feedback[0].record.at.tzinfo is UTC


def test_of_several_logs_with_one_id_the_first_is_kept_in_each_organisation() -> None:
    logs: list[Entry[LogRecord]] = entries(log("a", output="1"), log("a", output="2"), log("a", organisation="tm_2"))
    kept = first_of_each(logs)
    assert [(entry.record.organisation, entry.record.output) for entry in kept] == [("tm_1", "1"), ("tm_2", None)]
