"""Feedback on a log as states, one for each type or label, and the feedback in effect that results from them."""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from pydantic_core import to_json

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

    Replaced and unset values are left out. Takes time in proportion to the number of states: a log may have thousands.
    """
    later = _Later()
    effective: list[Feedback] = []
    for state in sorted(states, key=lambda state: (state.position, state.label_index), reverse=True):
        if state.feedback is not None and (rest := later.without_replaced(state.feedback)):
            effective.append(rest)
        later.add(state)
    effective += filter(None, map(later.without_replaced, reversed(list(initial))))
    effective.reverse()
    return _joined(effective)


class _Later:
    """What the states that follow replace or unset."""

    def __init__(self) -> None:
        self._types: set[str] = set()
        """Replaced or unset as a whole."""
        self._labels: dict[str, set[str]] = {}
        """Labels that are given again or unset, by type."""

    def add(self, state: FeedbackState) -> None:
        """Add a state that is earlier than those added before."""
        if state.label is None:
            self._types.add(state.type)
        else:
            self._labels.setdefault(state.type, set()).add(state.label)

    def without_replaced(self, feedback: Feedback) -> Feedback | None:
        """Return `feedback` without the values that later states replace or unset; None if none are left."""
        if feedback.type in self._types:
            return None
        labels = self._labels.get(feedback.type)
        if not labels:
            return feedback
        if not isinstance(feedback.value, list):
            return None if _label_text(feedback.value) in labels else feedback
        rest = [label for label in feedback.value if label not in labels]
        if len(rest) == len(feedback.value):
            return feedback
        return feedback.model_copy(update={"value": rest}) if rest else None


def _label_text(value: bool | float | str) -> str:
    """Return the label that a value of a select or multi-select is: itself, or its JSON text."""
    return value if isinstance(value, str) else to_json(value).decode()


def _joined(effective: Iterable[Feedback]) -> list[Feedback]:
    """Return the feedback with labels that were given together as one feedback again."""
    joined: list[Feedback] = []
    for _, parts in groupby(effective, key=lambda one: (one.id, isinstance(one.value, list))):
        first, *rest = parts
        labels = [label for one in (first, *rest) if isinstance(one.value, list) for label in one.value]
        joined += [first.model_copy(update={"value": labels})] if labels and rest else [first, *rest]
    return joined
