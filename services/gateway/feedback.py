"""What feedback means by the class of its type, and what it adds to the types of its project (behaviour.md §7)."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from pydantic_core import to_json

from services.gateway.catalogue import Catalogue
from shared import ids
from shared.contracts.logs import Feedback, FeedbackGiven, FeedbackValue, LogRecord
from shared.contracts.projects import STANDARD_FEEDBACK, FeedbackClass, FeedbackLabel, FeedbackType
from shared.errors import Invalid

RESERVED_SECONDS = 30 * 60
"""So long after its id was made a log may still come: a stream tells the id with its first event, the log is stored
when it has ended, and a call to a provider may take 20 minutes (`EVERLOOP_PROVIDER_TOTAL_SECONDS`)."""
_CLOCKS_SECONDS = 60
"""How far the clocks of two gateways may differ."""
LONGEST_LABEL = 1000
LONGEST_TEXT = 100_000
"""Characters. A log with many long corrections must still be one document of the database."""
_FORMS: Mapping[FeedbackClass, tuple[type, ...]] = {
    "select": (str, bool, int, float),
    "multi_select": (str, bool, int, float, list),
    "text": (str,),
    "number": (int, float),
}
_WORDS: Mapping[FeedbackClass, str] = {
    "select": "one of its values",
    "multi_select": "one or more of its values",
    "text": "a string",
    "number": "a number",
}


def may_come(log_id: str) -> bool:
    """Whether a log of this id may be on its way though it is not stored."""
    return ids.is_id("data", log_id) and -_CLOCKS_SECONDS < time.time() - ids.minted_at(log_id) < RESERVED_SECONDS


async def settled(
    catalogue: Catalogue, organisation: str, given: list[FeedbackGiven], projects: Mapping[str, str]
) -> list[FeedbackGiven]:
    """Feedback with the labels it concerns; types and labels that are new are added to the projects.

    `projects` by log. Of a log whose project is not known, what every project has counts, and nothing is added.
    Errors: Invalid (a value that its type does not take), NotFound (a project that is gone).
    """
    types: dict[str | None, dict[str, FeedbackType]] = {None: {one.type: one for one in STANDARD_FEEDBACK}}
    new: dict[str, list[FeedbackType]] = {}
    found = []
    for one in given:
        project_id = projects.get(one.log_id)
        if project_id is not None and project_id not in types:
            types[project_id] = dict(await catalogue.feedback_types(organisation, project_id))
        known = types[project_id].get(one.type)
        meant = meaning(one, known)
        found.append(one.model_copy(update={"labels": meant.labels if meant.kind == "multi_select" else []}))
        if (addition := _addition(one, known, meant)) is not None:
            types[project_id][one.type] = _joined(known, addition)
            if project_id is not None:
                new.setdefault(project_id, []).append(addition)
    for project_id, additions in new.items():
        await catalogue.define_feedback(organisation, project_id, additions)
    return found


async def with_feedback(
    catalogue: Catalogue, organisation: str, records: list[LogRecord], given: list[FeedbackGiven]
) -> list[LogRecord]:
    """Logs with what was given together with them; of what replaces each other, the last. Errors as of `settled`."""
    counting: dict[str, dict[tuple[str, ...], Feedback]] = {}
    for one in await settled(catalogue, organisation, given, {it.id: it.project_id for it in records}):
        of_log = counting.setdefault(one.log_id, {})
        of_log.pop((one.type, *one.labels), None)
        of_log[one.type, *one.labels] = Feedback.model_validate(one.model_dump(include=set(Feedback.model_fields)))
    return [it.model_copy(update={"feedback": list(counting.get(it.id, {}).values())}) for it in records]


class Meaning(NamedTuple):
    """What a value stands for."""

    kind: FeedbackClass
    labels: list[str]
    """Of `select` and `multi_select`."""


def meaning(given: FeedbackGiven, known: FeedbackType | None) -> Meaning:
    """By the type of this name, or by the value if there is none. Errors: Invalid."""
    kind = (known.kind if known else None) or _class_of(given.value)
    if not given.unset:
        _check(given, kind)
    elif kind == "multi_select" and given.value is None:
        raise Invalid(f"value: {given.type!r} may have several values; say which one is taken back.")
    return Meaning(kind, _labels(given) if kind in ("select", "multi_select") else [])


def _class_of(value: FeedbackValue | None) -> FeedbackClass:
    """Of a type that is not there. None is no label, so what is taken back is all of it."""
    match value:
        case bool():
            return "select"
        case int() | float():
            return "number"
        case list():
            return "multi_select"
    return "text"


def _check(given: FeedbackGiven, kind: FeedbackClass) -> None:
    if type(given.value) not in _FORMS[kind]:
        raise Invalid(f"value: {given.type!r} is of the class {kind}, so its value must be {_WORDS[kind]}.")
    if isinstance(given.value, str) and len(given.value) > LONGEST_TEXT:
        raise Invalid(f"value: {len(given.value):,} characters are too many; at most {LONGEST_TEXT:,} are kept.")


def _labels(given: FeedbackGiven) -> list[str]:
    """The labels a value names; a number or a truth value is named as JSON writes it. Errors: Invalid."""
    values = given.value if isinstance(given.value, list) else [given.value]
    labels = [value if isinstance(value, str) else to_json(value).decode() for value in values if value is not None]
    if not given.unset and not labels:
        raise Invalid("value: the list is empty; name at least one value.")
    for label in labels:
        if not 0 < len(label) <= LONGEST_LABEL:
            raise Invalid(
                f"value: {given.type!r} takes values of 1 to {LONGEST_LABEL:,} characters, not {len(label):,}."
            )
    return labels


def _addition(given: FeedbackGiven, known: FeedbackType | None, meant: Meaning) -> FeedbackType | None:
    """What the project does not have yet."""
    there = {label.value for label in known.labels} if known else set()
    missing = [label for label in dict.fromkeys(meant.labels) if label not in there]
    if given.unset or (known is not None and not missing):
        return None
    return FeedbackType(type=given.type, kind=meant.kind, labels=[FeedbackLabel(value=label) for label in missing])


def _joined(known: FeedbackType | None, addition: FeedbackType) -> FeedbackType:
    return addition if known is None else known.model_copy(update={"labels": [*known.labels, *addition.labels]})
