"""Feedback on a log as states, one for each type or label, and the feedback in effect that results from them."""

from collections.abc import Iterable
from typing import NamedTuple

from services.logging.decoding import Entry
from shared.contracts.logs import Feedback, FeedbackGiven


class FeedbackState(NamedTuple):
    """The feedback accepted last on one type, or on one label of a multi-select type."""

    type: str
    label: str | None
    """None: the state concerns all feedback of the type."""
    id: str
    """Of the feedback, `ann_…`."""
    position: int
    """Position of the feedback in the order of acceptance."""
    label_index: int
    """Index of the label among those given together; 0 without labels."""
    feedback: Feedback | None
    """None: unset."""


def feedback_states(entry: Entry[FeedbackGiven]) -> list[FeedbackState]:
    """Return the states that one record sets: one for each distinct label, or a single one without labels."""
    record = entry.record
    if not record.labels:
        return [FeedbackState(record.type, None, record.id, entry.position, 0, _feedback(record, None))]
    return [
        FeedbackState(record.type, label, record.id, entry.position, index, _feedback(record, label))
        for index, label in enumerate(dict.fromkeys(record.labels))
    ]


def _feedback(record: FeedbackGiven, label: str | None) -> Feedback | None:
    if record.unset or record.value is None:
        return None
    value = [label] if label is not None and isinstance(record.value, list) else record.value
    return Feedback(id=record.id, type=record.type, value=value, user=record.user, created_at=record.created_at)


def effective_feedback(initial: Iterable[Feedback], states: Iterable[FeedbackState]) -> list[Feedback]:
    """Return the feedback in effect: the log's own (`initial`) first, then later feedback in order of acceptance.

    Replaced and unset values are left out.
    """
    effective = list(initial)
    for state in sorted(states, key=lambda state: (state.position, state.label_index)):
        effective = [rest for feedback in effective if (rest := _without_replaced(feedback, state)) is not None]
        if state.feedback is not None:
            effective = _append(effective, state.feedback)
    return effective


def _without_replaced(feedback: Feedback, state: FeedbackState) -> Feedback | None:
    """Return `feedback` without the values that the later `state` replaces or unsets; None if none are left."""
    if feedback.type != state.type:
        return feedback
    if state.label is None or feedback.value == state.label:
        return None
    if isinstance(feedback.value, list):
        labels = [label for label in feedback.value if label != state.label]
        return feedback.model_copy(update={"value": labels}) if labels else None
    return feedback


def _append(effective: list[Feedback], feedback: Feedback) -> list[Feedback]:
    """Return `effective` with `feedback` at its end; labels given together become one feedback again."""
    last = effective[-1] if effective else None
    if last and last.id == feedback.id and isinstance(last.value, list) and isinstance(feedback.value, list):
        return [*effective[:-1], last.model_copy(update={"value": last.value + feedback.value})]
    return [*effective, feedback]
