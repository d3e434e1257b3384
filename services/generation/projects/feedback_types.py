"""The kinds of feedback of a project: what every project has, and what definitions add (behaviour.md §7)."""

from collections.abc import Iterable, Sequence

from pydantic import TypeAdapter

from shared.contracts.projects import (
    LONGEST_NAME,
    MOST_FEEDBACK_LABELS,
    MOST_FEEDBACK_TYPES,
    FeedbackLabel,
    FeedbackType,
)
from shared.errors import Invalid

LABELLED = frozenset({"select", "multi_select"})
_MOST_BYTES = 512 * 1024
"""Of all types of a project as JSON: they travel with it, in one message of the bus."""
_TYPES: TypeAdapter[list[FeedbackType]] = TypeAdapter(list[FeedbackType])


def defined(existing: Sequence[FeedbackType], definitions: Iterable[FeedbackType]) -> list[FeedbackType]:
    """All types after these were defined: types and labels are added or changed, never removed. Errors: Invalid."""
    types = {one.type: one for one in existing}
    for definition in definitions:
        _sensible(definition)
        types[definition.type] = _joined(types.get(definition.type), definition)
    if len(types) > max(MOST_FEEDBACK_TYPES, len(existing)):
        raise Invalid(f"type: a project has at most {MOST_FEEDBACK_TYPES} types of feedback.")
    found = list(types.values())
    if _bytes(found) > _MOST_BYTES and _bytes(found) > _bytes(existing):
        raise Invalid(f"values: the types of feedback of a project have at most {_MOST_BYTES:,} bytes as JSON, in all.")
    return found


def _bytes(types: Sequence[FeedbackType]) -> int:
    return len(_TYPES.dump_json([*types]))


def _sensible(definition: FeedbackType) -> None:
    if not 1 <= len(definition.type) <= LONGEST_NAME:
        raise Invalid(f"type: the name of a type of feedback has 1 to {LONGEST_NAME} characters.")
    if any(len(label.value) > LONGEST_NAME for label in definition.labels):
        raise Invalid(f"values: a value has at most {LONGEST_NAME} characters.")


def _joined(there: FeedbackType | None, definition: FeedbackType) -> FeedbackType:
    kind = definition.kind or (there.kind if there else None) or ("select" if definition.labels else "text")
    if there is not None and kind != there.kind:
        raise Invalid(f"class: the feedback type {there.type!r} is a {there.kind}; its class cannot be changed.")
    if definition.labels and kind not in LABELLED:
        raise Invalid(f"values: the feedback type {definition.type!r} is a {kind}, which has no values to choose from.")
    labels = {label.value: label for label in there.labels} if there else {}
    for label in definition.labels:
        known = labels.get(label.value)
        sentiment = label.sentiment or (known.sentiment if known else None) or "unset"
        labels[label.value] = FeedbackLabel(value=label.value, sentiment=sentiment)
    if len(labels) > max(MOST_FEEDBACK_LABELS, len(there.labels) if there else 0):
        raise Invalid(f"values: a feedback type has at most {MOST_FEEDBACK_LABELS} values.")
    return FeedbackType(type=definition.type, kind=kind, labels=list(labels.values()))
