"""What is said about a log: of everything said and taken back, what counts now."""

from collections.abc import Iterable
from typing import NamedTuple

from services.logging.decoding import Entry
from shared.contracts.logs import Feedback, FeedbackGiven


class FeedbackState(NamedTuple):
    """The last word on one thing: on a type of feedback, or on one label of a multi-select."""

    type: str
    label: str | None
    """None: on all of the type."""
    id: str
    recorded: int
    """Its place in the order of acceptance."""
    place: int
    """Its place among the labels given together."""
    feedback: Feedback | None
    """None: taken back."""


def feedback_states(entry: Entry[FeedbackGiven]) -> list[FeedbackState]:
    """What one entry says, once for each label."""
    given = entry.record
    if not given.labels:
        return [FeedbackState(given.type, None, given.id, entry.recorded, 0, _feedback(given, None))]
    return [
        FeedbackState(given.type, label, given.id, entry.recorded, place, _feedback(given, label))
        for place, label in enumerate(dict.fromkeys(given.labels))
    ]


def _feedback(given: FeedbackGiven, label: str | None) -> Feedback | None:
    if given.unset or given.value is None:
        return None
    value = [label] if label is not None and isinstance(given.value, list) else given.value
    return Feedback(id=given.id, type=given.type, value=value, user=given.user, created_at=given.created_at)


def current(with_log: Iterable[Feedback], states: Iterable[FeedbackState]) -> list[Feedback]:
    """What counts now: what came with the log first, then the rest in the order it was said."""
    counting = list(with_log)
    for state in sorted(states, key=lambda one: (one.recorded, one.place)):
        counting = [left for one in counting if (left := _left(one, state)) is not None]
        if state.feedback is not None:
            counting = _joined(counting, state.feedback)
    return counting


def _left(feedback: Feedback, state: FeedbackState) -> Feedback | None:
    """What a later word leaves of it."""
    if feedback.type != state.type:
        return feedback
    if state.label is None or feedback.value == state.label:
        return None
    if isinstance(feedback.value, list):
        labels = [label for label in feedback.value if label != state.label]
        return feedback.model_copy(update={"value": labels}) if labels else None
    return feedback


def _joined(counting: list[Feedback], feedback: Feedback) -> list[Feedback]:
    """Labels given together are one feedback again."""
    last = counting[-1] if counting else None
    if last and last.id == feedback.id and isinstance(last.value, list) and isinstance(feedback.value, list):
        return [*counting[:-1], last.model_copy(update={"value": last.value + feedback.value})]
    return [*counting, feedback]
