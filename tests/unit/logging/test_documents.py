"""A log comes back from its document as it was."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.logging.decoding import Entry
from services.logging.session_resolution import UNRESOLVED, SessionAssignment
from services.logging.store.documents import document_of, log_of
from shared.contracts.logs import LogRecord, StoredLog
from tests.unit.logging.builders import START, log

AWARE: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)


def through_the_database(record: LogRecord, assignment: SessionAssignment | None = None) -> StoredLog:
    document = document_of(Entry(7, record), assignment or SessionAssignment(record.session_id))
    return log_of(bson.decode(bson.encode(document), AWARE))


def same(stored: StoredLog, record: LogRecord) -> None:
    assert LogRecord.model_validate(stored.model_dump(exclude={"updated_at"})) == record


def test_what_a_log_does_not_have_is_not_stored() -> None:
    document = document_of(Entry(7, log()), SessionAssignment(None))
    assert set(document) == {
        *("_id", "organisation", "project_id", "config_id"),
        *("created_at", "updated_at", "recorded"),
    }


def test_a_full_log_comes_back_as_it_was() -> None:
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
        prompt_cost=0.0,
        output_cost=1e-9,
        provider_request={"n": None},
        provider_response={},
        finish_reason="stop",
        tools=[{"id": "oc_1", "name": "t", "signature": "t()", "result": "r"}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        feedback=[{"id": "ann_1", "type": "rating", "value": "good", "created_at": START}],
        trace="00-" + 32 * "a" + "-" + 16 * "b" + "-01",
    )
    assert {name for name in LogRecord.model_fields if getattr(full, name) is None} == set()
    same(through_the_database(full), full)


def test_microseconds_and_zones_survive() -> None:
    zoned = log(created_at=datetime(2023, 11, 28, 12, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=2))))
    stored = through_the_database(zoned)
    assert stored.created_at == zoned.created_at
    assert stored.updated_at >= stored.created_at


def test_a_child_is_shown_in_the_session_it_joined() -> None:
    child = log(parent_id="data_0")
    assert through_the_database(child, SessionAssignment("sesh_9")).session_id == "sesh_9"
    assert through_the_database(child, UNRESOLVED).session_id is None


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
    stored = through_the_database(record)
    same(stored, record)
    assert repr(stored.inputs) == repr(record.inputs), "1 is not 1.0, and True is not 1"
