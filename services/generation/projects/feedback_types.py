"""The feedback types of a project: the standard ones, and what later definitions add to them (behaviour.md §7)."""

from collections.abc import Iterable, Sequence

from pydantic import TypeAdapter

from shared.contracts.generation.projects import (
    MAX_FEEDBACK_LABELS,
    MAX_FEEDBACK_TYPES,
    MAX_NAME_CHARACTERS,
    FeedbackLabel,
    FeedbackType,
)
from shared.errors import Invalid

_LABELLED_KINDS = frozenset({"select", "multi_select"})
_MAX_BYTES = 512 * 1024
"""Bytes of JSON of all feedback types of a project: they are sent with it, in one message of the bus."""
_TYPES: TypeAdapter[list[FeedbackType]] = TypeAdapter(list[FeedbackType])


def merge_definitions(existing: Sequence[FeedbackType], definitions: Iterable[FeedbackType]) -> list[FeedbackType]:
    """Return the existing types with the definitions merged in: types and labels are added or changed, never removed.

    Raises Invalid, naming the field, for a name or a total that is too long, a changed class, labels of a class without
    labels.
    """
    types = {feedback_type.type: feedback_type for feedback_type in existing}
    for definition in definitions:
        _check_lengths(definition)
        types[definition.type] = _merge(types.get(definition.type), definition)
    if len(types) > max(MAX_FEEDBACK_TYPES, len(existing)):
        raise Invalid(f"type: a project has at most {MAX_FEEDBACK_TYPES} types of feedback.")
    merged = list(types.values())
    if _json_bytes(merged) > _MAX_BYTES and _json_bytes(merged) > _json_bytes(existing):
        raise Invalid(f"values: the types of feedback of a project have at most {_MAX_BYTES:,} bytes as JSON, in all.")
    return merged


def _json_bytes(types: Sequence[FeedbackType]) -> int:
    return len(_TYPES.dump_json([*types]))


def _check_lengths(definition: FeedbackType) -> None:
    if not 1 <= len(definition.type) <= MAX_NAME_CHARACTERS:
        raise Invalid(f"type: the name of a type of feedback has 1 to {MAX_NAME_CHARACTERS} characters.")
    if any(len(label.value) > MAX_NAME_CHARACTERS for label in definition.labels):
        raise Invalid(f"values: a value has at most {MAX_NAME_CHARACTERS} characters.")


def _merge(existing: FeedbackType | None, definition: FeedbackType) -> FeedbackType:
    kind = definition.kind or (existing.kind if existing else None) or ("select" if definition.labels else "text")
    if existing is not None and kind != existing.kind:
        raise Invalid(f"class: the feedback type {existing.type!r} is a {existing.kind}; its class cannot be changed.")
    if definition.labels and kind not in _LABELLED_KINDS:
        raise Invalid(f"values: the feedback type {definition.type!r} is a {kind}, which has no values to choose from.")
    labels = {label.value: label for label in existing.labels} if existing else {}
    for label in definition.labels:
        previous = labels.get(label.value)
        sentiment = label.sentiment or (previous.sentiment if previous else None) or "unset"
        labels[label.value] = FeedbackLabel(value=label.value, sentiment=sentiment)
    if len(labels) > max(MAX_FEEDBACK_LABELS, len(existing.labels) if existing else 0):
        raise Invalid(f"values: a feedback type has at most {MAX_FEEDBACK_LABELS} values.")
    return FeedbackType(type=definition.type, kind=kind, labels=list(labels.values()))
