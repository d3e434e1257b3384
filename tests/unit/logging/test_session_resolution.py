"""Resolving sessions: a log without a session of its own inherits its parent's."""

from hypothesis import given
from hypothesis import strategies as st

from services.logging.session_resolution import (
    UNRESOLVED,
    LogKey,
    SessionAssignment,
    assign_sessions,
    session_parents_of,
)
from tests.unit.logging.builders import entries, log


def key(log_id: str) -> LogKey:
    return LogKey("tm_1", log_id)


def test_a_log_has_its_own_session_or_none() -> None:
    logs = entries(log("a", session_id="sesh_1", parent_id="x"), log("b"))
    assert assign_sessions(logs, {}) == {key("a"): SessionAssignment("sesh_1"), key("b"): SessionAssignment(None)}
    assert session_parents_of(logs) == set()


def test_descendants_inherit_through_the_batch_in_any_order() -> None:
    logs = entries(log("c", parent_id="b"), log("b", parent_id="a"), log("a", session_id="sesh_1"))
    assert set(assign_sessions(logs, {}).values()) == {SessionAssignment("sesh_1")}
    assert session_parents_of(logs) == {key("a"), key("b")}


def test_descendants_of_a_stored_log_are_resolved_even_if_it_has_no_session() -> None:
    logs = entries(log("b", parent_id="a"), log("d", parent_id="c"), log("e", parent_id="d"))
    assignments = assign_sessions(logs, {key("a"): SessionAssignment("sesh_1"), key("c"): SessionAssignment(None)})
    assert assignments == {
        key("b"): SessionAssignment("sesh_1"),
        key("d"): SessionAssignment(None),
        key("e"): SessionAssignment(None),
    }


def test_a_log_without_a_known_ancestor_is_unresolved() -> None:
    logs = entries(log("b", parent_id="a"), log("c", parent_id="b"))
    assert assign_sessions(logs, {}) == {key("b"): UNRESOLVED, key("c"): UNRESOLVED}


def test_a_log_of_another_organisation_with_the_id_of_the_parent_is_ignored() -> None:
    logs = entries(log("a", session_id="sesh_1", organisation="tm_2"), log("b", parent_id="a"))
    assert assign_sessions(logs, {})[key("b")] == UNRESOLVED


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=12))
def test_any_batch_is_resolved_even_with_loops(links: list[tuple[int, bool]]) -> None:
    logs = [
        log(f"{index}", parent_id=f"{parent}", session_id=f"s{index}" if own else None)
        for index, (parent, own) in enumerate(links)
    ]
    assignments = assign_sessions(entries(*logs), {})
    assert len(assignments) == len(logs)
    for one in logs:
        assignment = assignments[key(one.id)]
        if one.session_id is not None:
            assert assignment == SessionAssignment(one.session_id)
        else:
            assert assignment == assignments.get(key(str(one.parent_id)), UNRESOLVED)


def test_a_chain_of_twenty_thousand_logs_is_resolved_in_one_pass() -> None:
    logs = [log(str(index), parent_id=str(index + 1)) for index in range(20_000)]
    assignments = assign_sessions(entries(*logs, log("20000", session_id="s")), {})
    assert set(assignments.values()) == {SessionAssignment("s")}
