"""Session records, and the summary of a session from its record and statistics."""

from datetime import timedelta
from typing import Any

from services.logging.sessions import SessionRecord, SessionStats, merge_session_records, session_summary
from tests.unit.logging.builders import START


def session_record(seconds: float = 0, *projects: str, reference_id: str | None = None) -> SessionRecord:
    return SessionRecord("tm_1", "sesh_1", START + timedelta(seconds=seconds), frozenset(projects), reference_id)


def stats(project_id: str, seconds: float, **fields: Any) -> SessionStats:
    at = START + timedelta(seconds=seconds)
    values: dict[str, Any] = {
        "log_count": 1,
        "first_log": (at, 1),
        "first_inputs": {},
        "last_output_set": None,
        "last_output": None,
    }
    return SessionStats(session_id="sesh_1", project_id=project_id, **(values | {"updated_at": at} | fields))


def test_a_session_without_logs_has_only_its_creation_time() -> None:
    shown = session_summary(session_record(reference_id="r"), [])
    assert (shown.reference_id, shown.datapoints_count, shown.project_ids) == ("r", 0, [])
    assert shown.created_at == shown.updated_at == START
    assert shown.first_inputs is None
    assert shown.last_output is None


def test_projects_are_listed_in_the_order_of_their_first_log() -> None:
    shown = session_summary(
        session_record(), [stats("pr_b", 2, log_count=2), stats("pr_a", 3), stats("pr_c", 1, first_inputs={"q": 1})]
    )
    assert shown.project_ids == ["pr_c", "pr_b", "pr_a"]
    assert shown.datapoints_count == 4
    assert shown.first_inputs == {"q": 1}
    assert shown.updated_at == START + timedelta(seconds=3)


def test_the_last_output_is_the_one_set_last_not_that_of_the_newest_log() -> None:
    late = (START + timedelta(seconds=9), 1)
    early = (START + timedelta(seconds=5), 2)
    shown = session_summary(
        session_record(),
        [
            stats("pr_a", 1, last_output_set=late, last_output="late"),
            stats("pr_b", 5, last_output_set=early, last_output="early"),
            stats("pr_c", 7),
        ],
    )
    assert shown.last_output == "late"


def test_of_outputs_set_at_the_same_time_the_one_accepted_later_is_last() -> None:
    shown = session_summary(
        session_record(),
        [
            stats("a", 1, last_output_set=(START, 2), last_output="2"),
            stats("b", 1, last_output_set=(START, 1), last_output="1"),
        ],
    )
    assert shown.last_output == "2"


def test_records_of_a_session_are_merged_and_cover_what_they_contain() -> None:
    merged = merge_session_records(
        [session_record(5, "b"), session_record(3, "a", reference_id="r"), session_record(9)]
    )
    assert merged == [session_record(3, "a", "b", reference_id="r")]
    assert merged[0].covers(session_record(4, "b"))
    assert not merged[0].covers(session_record(2, "b"))
    assert not merged[0].covers(session_record(4, "c"))
    assert not session_record(0).covers(session_record(0, reference_id="r"))
