"""What counts of everything said about a log."""

from typing import Any

from services.logging.decoding import Entry
from services.logging.feedback_state import FeedbackState, current, feedback_states
from shared.contracts.logs import Feedback
from tests.unit.logging.builders import START, given


def states(*records: dict[str, Any]) -> list[FeedbackState]:
    """Said one after the other; the ids are `ann_1`, `ann_2`, …"""
    return [
        state
        for place, fields in enumerate(records, start=1)
        for state in feedback_states(Entry(place, given(f"ann_{place}", **fields)))
    ]


def values(found: list[Feedback]) -> list[tuple[str, Any]]:
    """Ids and values."""
    return [(one.id, one.value) for one in found]


def with_log(kind: str, value: Any) -> Feedback:
    """Given together with its log."""
    return Feedback(id="ann_0", type=kind, value=value, created_at=START)


def test_what_was_said_last_counts() -> None:
    found = states({"value": "good"}, {"value": "bad"}, {"type": "comment", "value": "hm"})
    assert values(current([], found)) == [("ann_2", "bad"), ("ann_3", "hm")]
    assert values(current([], reversed(found))) == [("ann_2", "bad"), ("ann_3", "hm")]


def test_what_came_with_the_log_is_older_than_the_rest() -> None:
    assert values(current([with_log("rating", "good")], states({"value": 4}))) == [("ann_1", 4)]
    assert values(current([with_log("mood", 1)], states({"value": 4}))) == [("ann_0", 1), ("ann_1", 4)]


def test_what_is_taken_back_is_gone() -> None:
    assert current([], states({"value": "good"}, {"unset": True})) == []
    assert current([with_log("rating", "good")], states({"unset": True})) == []
    again = states({"value": "good"}, {"unset": True}, {"value": "bad"})
    assert values(current([], again)) == [("ann_3", "bad")]


def test_labels_are_added() -> None:
    copied, saved = ({"type": "action", "value": name, "labels": [name]} for name in ("copied", "saved"))
    assert values(current([], states(copied, saved))) == [("ann_1", "copied"), ("ann_2", "saved")]
    assert values(current([], states(copied, saved, copied | {"unset": True}))) == [("ann_2", "saved")]


def test_labels_given_together_are_one_feedback_until_one_is_taken_back() -> None:
    together = {"type": "action", "value": ["a", "b", "c", "a"], "labels": ["a", "b", "c", "a"]}
    back = {"type": "action", "value": "b", "labels": ["b"], "unset": True}
    assert values(current([], states(together))) == [("ann_1", ["a", "b", "c"])]
    assert values(current([], states(together, back))) == [("ann_1", ["a", "c"])]
    again = {"type": "action", "value": "c", "labels": ["c"]}
    assert values(current([], states(together, back, again))) == [("ann_1", ["a"]), ("ann_3", "c")]


def test_a_label_is_taken_back_also_if_it_came_with_the_log() -> None:
    back = states({"type": "action", "labels": ["a"], "unset": True})
    assert current([with_log("action", "a")], back) == []
    assert values(current([with_log("action", ["a", "b"])], back)) == [("ann_0", ["b"])]
    assert current([with_log("action", ["a"])], back) == []
    assert values(current([with_log("action", 3)], back)) == [("ann_0", 3)]
