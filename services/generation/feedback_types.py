"""The kinds of feedback of a project: what every project has, and what definitions add (behaviour.md §7)."""

from collections.abc import Iterable, Sequence

from shared.contracts.projects import FeedbackLabel, FeedbackType
from shared.errors import Invalid

LABELLED = frozenset({"select", "multi_select"})
_MOST_LABELS = 1000
_MOST_TYPES = 200


def defined(existing: Sequence[FeedbackType], definitions: Iterable[FeedbackType]) -> list[FeedbackType]:
    """All types after these were defined: types and labels are added or changed, never removed. Errors: Invalid."""
    types = {one.type: one for one in existing}
    for definition in definitions:
        types[definition.type] = _joined(types.get(definition.type), definition)
    if len(types) > _MOST_TYPES:
        raise Invalid(f"A project has at most {_MOST_TYPES} types of feedback.")
    return list(types.values())


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
    if len(labels) > _MOST_LABELS:
        raise Invalid(f"values: a feedback type has at most {_MOST_LABELS} values.")
    return FeedbackType(type=definition.type, kind=kind, labels=list(labels.values()))
