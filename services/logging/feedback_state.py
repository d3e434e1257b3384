"""What is said about a log: of everything said and taken back, what counts now."""

from collections.abc import Iterable
from typing import NamedTuple

from services.logging.decoding import Entry
from shared.contracts.logs import Feedback, FeedbackGiven


class Said(NamedTuple):
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


def said(entry: Entry[FeedbackGiven]) -> list[Said]:
    """What one entry says, once for each label."""
    given = entry.record
    if not given.labels:
        return [Said(given.type, None, given.id, entry.recorded, 0, _feedback(given, None))]
    return [
        Said(given.type, label, given.id, entry.recorded, place, _feedback(given, label))
        for place, label in enumerate(dict.fromkeys(given.labels))
    ]


def _feedback(given: FeedbackGiven, label: str | None) -> Feedback | None:
    if given.unset or given.value is None:
        return None
    value = [label] if label is not None and isinstance(given.value, list) else given.value
    return Feedback(id=given.id, type=given.type, value=value, user=given.user, created_at=given.created_at)


def current(with_log: Iterable[Feedback], words: Iterable[Said]) -> list[Feedback]:
    """What counts now: what came with the log first, then the rest in the order it was said."""
    counting = list(with_log)
    for word in sorted(words, key=lambda one: (one.recorded, one.place)):
        counting = [left for one in counting if (left := _left(one, word)) is not None]
        if word.feedback is not None:
            counting = _joined(counting, word.feedback)
    return counting


def _left(feedback: Feedback, word: Said) -> Feedback | None:
    """What a later word leaves of it."""
    if feedback.type != word.type:
        return feedback
    if word.label is None or feedback.value == word.label:
        return None
    if isinstance(feedback.value, list):
        labels = [label for label in feedback.value if label != word.label]
        return feedback.model_copy(update={"value": labels}) if labels else None
    return feedback


def _joined(counting: list[Feedback], feedback: Feedback) -> list[Feedback]:
    """Labels given together are one feedback again."""
    last = counting[-1] if counting else None
    if last and last.id == feedback.id and isinstance(last.value, list) and isinstance(feedback.value, list):
        return [*counting[:-1], last.model_copy(update={"value": last.value + feedback.value})]
    return [*counting, feedback]
