"""What feedback means by the class of its type, and what it adds to the types of its project (behaviour.md §7)."""

import time
from collections.abc import Iterable, Mapping

from pydantic_core import to_json

from services.gateway.project_cache import ProjectCache
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
    project_cache: ProjectCache, organisation: str, given: list[FeedbackGiven], projects: Mapping[str, str]
) -> list[FeedbackGiven]:
    """Feedback with the labels it concerns; types and labels that are new are added to the projects.

    `projects` by log. Of a log whose project is not known, what every project has counts, and nothing is added.
    Errors: Invalid (a value that its type does not take), NotFound (a project that is gone).
    """
    types: dict[str | None, Types] = {None: Types(STANDARD_FEEDBACK)}
    found = []
    for one in given:
        project_id = projects.get(one.log_id)
        if project_id is not None and project_id not in types:
            types[project_id] = Types((await project_cache.feedback_types(organisation, project_id)).values())
        found.append(one.model_copy(update={"labels": types[project_id].take(one)}))
    for project_id, known in types.items():
        if project_id is not None and (additions := known.additions()):
            await project_cache.define_feedback(organisation, project_id, additions)
    return found


async def with_feedback(
    project_cache: ProjectCache, organisation: str, records: list[LogRecord], given: list[FeedbackGiven]
) -> list[LogRecord]:
    """Logs with what was given together with them; of what replaces each other, the last. Errors as of `settled`."""
    counting: dict[str, dict[tuple[str, ...], Feedback]] = {}
    for one in await settled(project_cache, organisation, given, {it.id: it.project_id for it in records}):
        of_log = counting.setdefault(one.log_id, {})
        of_log.pop((one.type, *one.labels), None)
        of_log[one.type, *one.labels] = Feedback.model_validate(one.model_dump(include=set(Feedback.model_fields)))
    return [it.model_copy(update={"feedback": list(counting.get(it.id, {}).values())}) for it in records]


class Types:
    """The types of feedback of a project, and what feedback adds to them."""

    def __init__(self, known: Iterable[FeedbackType]) -> None:
        self._kinds: dict[str, FeedbackClass] = {}
        self._labels: dict[str, set[str]] = {}
        self._new: dict[str, list[str]] = {}
        for one in known:
            self._kinds[one.type] = one.kind or "text"
            self._labels[one.type] = {label.value for label in one.labels}

    def take(self, given: FeedbackGiven) -> list[str]:
        """The labels that this feedback concerns alone; none if it concerns all of its type. Errors: Invalid."""
        kind = self._kinds.get(given.type) or _class_of(given.value)
        if not given.unset:
            _check(given, kind)
        elif kind == "multi_select" and given.value is None:
            raise Invalid(f"value: {given.type!r} may have several values; say which one is taken back.")
        labels = _labels(given) if kind in ("select", "multi_select") else []
        if not given.unset:
            self._add(given.type, kind, labels)
        return labels if kind == "multi_select" else []

    def _add(self, name: str, kind: FeedbackClass, labels: list[str]) -> None:
        there = self._labels.setdefault(name, set())
        missing = [label for label in dict.fromkeys(labels) if label not in there]
        if missing or name not in self._kinds:
            self._kinds[name] = kind
            self._new.setdefault(name, []).extend(missing)
            there.update(missing)

    def additions(self) -> list[FeedbackType]:
        """What the project does not have yet."""
        return [
            FeedbackType(type=name, kind=self._kinds[name], labels=[FeedbackLabel(value=label) for label in labels])
            for name, labels in self._new.items()
        ]


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
