"""The feedback in effect on a log."""

from typing import Any

from services.logging.decoding import Entry
from services.logging.feedback_state import FeedbackState, effective_feedback, feedback_states
from shared.contracts.logs import Feedback
from tests.unit.logging.builders import START, feedback


def states(*records: dict[str, Any]) -> list[FeedbackState]:
    """Return the states of feedback accepted one after the other; the ids are `ann_1`, `ann_2`, …"""
    return [
        state
        for position, fields in enumerate(records, start=1)
        for state in feedback_states(Entry(position, feedback(f"ann_{position}", **fields)))
    ]


def values(effective: list[Feedback]) -> list[tuple[str, Any]]:
    """Return ids and values."""
    return [(one.id, one.value) for one in effective]


def initial(kind: str, value: Any) -> Feedback:
    """Return feedback that was given together with its log."""
    return Feedback(id="ann_0", type=kind, value=value, created_at=START)


def test_the_feedback_accepted_last_replaces_the_earlier_of_its_type() -> None:
    given = states({"value": "good"}, {"value": "bad"}, {"type": "comment", "value": "hm"})
    assert values(effective_feedback([], given)) == [("ann_2", "bad"), ("ann_3", "hm")]
    assert values(effective_feedback([], reversed(given))) == [("ann_2", "bad"), ("ann_3", "hm")]


def test_feedback_given_with_the_log_counts_as_the_earliest() -> None:
    assert values(effective_feedback([initial("rating", "good")], states({"value": 4}))) == [("ann_1", 4)]
    assert values(effective_feedback([initial("mood", 1)], states({"value": 4}))) == [("ann_0", 1), ("ann_1", 4)]


def test_unset_feedback_is_left_out() -> None:
    assert effective_feedback([], states({"value": "good"}, {"unset": True})) == []
    assert effective_feedback([initial("rating", "good")], states({"unset": True})) == []
    again = states({"value": "good"}, {"unset": True}, {"value": "bad"})
    assert values(effective_feedback([], again)) == [("ann_3", "bad")]


def test_labels_of_a_multi_select_are_added_and_unset_one_by_one() -> None:
    copied, saved = ({"type": "action", "value": name, "labels": [name]} for name in ("copied", "saved"))
    assert values(effective_feedback([], states(copied, saved))) == [("ann_1", "copied"), ("ann_2", "saved")]
    assert values(effective_feedback([], states(copied, saved, copied | {"unset": True}))) == [("ann_2", "saved")]


def test_labels_given_together_stay_one_feedback_without_those_unset_later() -> None:
    together = {"type": "action", "value": ["a", "b", "c", "a"], "labels": ["a", "b", "c", "a"]}
    unset = {"type": "action", "value": "b", "labels": ["b"], "unset": True}
    assert values(effective_feedback([], states(together))) == [("ann_1", ["a", "b", "c"])]
    assert values(effective_feedback([], states(together, unset))) == [("ann_1", ["a", "c"])]
    again = {"type": "action", "value": "c", "labels": ["c"]}
    assert values(effective_feedback([], states(together, unset, again))) == [("ann_1", ["a"]), ("ann_3", "c")]


def test_a_label_given_with_the_log_can_be_unset() -> None:
    unset = states({"type": "action", "labels": ["a"], "unset": True})
    assert effective_feedback([initial("action", "a")], unset) == []
    assert values(effective_feedback([initial("action", ["a", "b"])], unset)) == [("ann_0", ["b"])]
    assert effective_feedback([initial("action", ["a"])], unset) == []
    assert values(effective_feedback([initial("action", 3)], unset)) == [("ann_0", 3)]


def test_a_number_or_truth_value_given_with_the_log_is_a_label_too() -> None:
    for value, label in ((3, "3"), (4.5, "4.5"), (True, "true")):
        one = {"type": "action", "value": value, "labels": [label]}
        assert effective_feedback([initial("action", value)], states(one | {"unset": True})) == []
        assert values(effective_feedback([initial("action", value)], states(one))) == [("ann_1", value)]


def test_time_grows_with_the_number_of_labels_and_not_faster() -> None:
    """A log with all labels that a type may have must not hold up every other log."""
    copies = 0

    class Counted(Feedback):
        def model_copy(self, **arguments: Any) -> "Counted":
            nonlocal copies
            copies += 1
            return super().model_copy(**arguments)

    names = [f"label {number}" for number in range(1000)]
    one_by_one = states(*({"type": "action", "value": [name], "labels": [name]} for name in names))
    together = states({"type": "action", "value": names, "labels": names})
    for given in (one_by_one, together):
        counted = [
            state._replace(feedback=Counted.model_validate(state.feedback.model_dump()))
            for state in given
            if state.feedback is not None
        ]
        found = effective_feedback([], counted)
        assert [label for one in found for label in (one.value if isinstance(one.value, list) else [])] == names
    assert copies <= len(names)
