"""Logs as documents: every field survives, and documents stored by earlier versions are read."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.logging.decoding import Entry
from services.logging.session_resolution import UNRESOLVED, SessionAssignment
from services.logging.store.documents import document_of, log_of
from services.logging.store.feedback_fields import state_expressions
from shared.contracts.logs import LogRecord, StoredLog
from tests.unit.logging.builders import START, feedback, golden_documents, log

GOLDEN = golden_documents()
AWARE: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)


def round_trip(record: LogRecord, assignment: SessionAssignment | None = None) -> StoredLog:
    document = document_of(Entry(7, record), assignment or SessionAssignment(record.session_id))
    return log_of(bson.decode(bson.encode(document), AWARE))


def assert_same(stored: StoredLog, record: LogRecord) -> None:
    assert LogRecord.model_validate(stored.model_dump(exclude={"updated_at"})) == record


def test_fields_a_log_does_not_have_are_not_stored() -> None:
    document = document_of(Entry(7, log()), SessionAssignment(None))
    assert set(document) == {
        *("_id", "organisation", "project_id", "config_id"),
        *("created_at", "updated_at", "recorded"),
    }


def test_a_log_with_every_field_survives_storing() -> None:
    full = log(
        model="gpt-4",
        served_provider="openai",
        served_model="gpt-4o",
        reference_id="mine",
        session_id="sesh_1",
        session_reference_id="s",
        parent_id="data_0",
        parent_reference_id="p",
        inputs={"$where": {"a.b": None, "\x00": [1.0, 2**80, -0.5, "\U0001f600"]}},
        messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": ""},
        ],
        output="",
        raw_output=" out ",
        output_message={"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]},
        judgment=False,
        error="e",
        stdout="s",
        source="sdk",
        metadata={"deep": {"er": []}},
        save=False,
        source_datapoint_id="evtc_1",
        environment="production",
        user="u",
        duration=1.5,
        provider_latency=0.25,
        prompt_tokens=1,
        output_tokens=0,
        tokens=1,
        cached_tokens=1,
        prompt_cost=0.0,
        output_cost=1e-9,
        provider_request={"n": None},
        provider_response={},
        finish_reason="stop",
        refusal="SAFETY",
        tools=[{"id": "oc_1", "name": "t", "signature": "t()", "result": "r"}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        feedback=[{"id": "ann_1", "type": "rating", "value": "good", "created_at": START}],
        trace="00-" + 32 * "a" + "-" + 16 * "b" + "-01",
    )
    assert {name for name in LogRecord.model_fields if getattr(full, name) is None} == set()
    assert_same(round_trip(full), full)


def test_microseconds_and_zones_survive_storing() -> None:
    zoned = log(created_at=datetime(2023, 11, 28, 12, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=2))))
    stored = round_trip(zoned)
    assert stored.created_at == zoned.created_at
    assert stored.updated_at >= stored.created_at


def test_a_child_has_the_session_it_was_assigned() -> None:
    child = log(parent_id="data_0")
    assert round_trip(child, SessionAssignment("sesh_9")).session_id == "sesh_9"
    assert round_trip(child, UNRESOLVED).session_id is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
OBJECT = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), JSON, max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(OBJECT, OBJECT | st.none(), OBJECT | st.none())
def test_any_json_comes_back_exactly(
    inputs: dict[str, Any], metadata: dict[str, Any] | None, response: dict[str, Any] | None
) -> None:
    record = log(inputs=inputs, metadata=metadata, provider_request=response, provider_response=response)
    stored = round_trip(record)
    assert_same(stored, record)
    assert repr(stored.inputs) == repr(record.inputs), "1 is not 1.0, and True is not 1"


def test_a_document_of_an_earlier_version_is_read() -> None:
    stored = log_of(GOLDEN["log"])
    assert stored.created_at == START + timedelta(microseconds=123_456)
    assert stored.updated_at == START + timedelta(seconds=60)
    assert (stored.id, stored.organisation, stored.session_id, stored.parent_id) == (
        *("data_1", "tm_1"),
        *("sesh_1", "data_0"),
    )
    assert (stored.inputs, stored.metadata, stored.output, stored.duration) == ({"q": 1}, {"a.b": None}, "later", 1.5)
    assert [(one.id, one.type, one.value, one.user) for one in stored.feedback] == [
        ("ann_1", "rating", "bad", "ada"),
        ("ann_2", "action", ["copied", "saved"], None),
    ], "ann_3 unset the comment that came with the log"
    assert log_of(GOLDEN["unresolved_log"]).session_id is None


def test_documents_are_stored_under_the_field_names_of_the_earlier_version() -> None:
    assert document_of(Entry(700_001, log("data_2", parent_id="data_9")), UNRESOLVED) == GOLDEN["unresolved_log"]
    accepted = [
        Entry(900_000, feedback("ann_1", value="bad", user="ada")),
        Entry(900_001, feedback("ann_2", type="action", value=["copied", "saved"], labels=["copied", "saved"])),
        Entry(900_002, feedback("ann_3", type="comment", unset=True)),
    ]
    expressions = {path: expression["$cond"][1]["$literal"] for path, expression in state_expressions(accepted).items()}
    assert expressions == {f"said.{key}": state for key, state in GOLDEN["log"]["said"].items()}
