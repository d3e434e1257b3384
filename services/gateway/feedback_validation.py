"""Validates feedback by the class of its type, and adds new types and labels to the project (behaviour.md §7)."""

import time
from collections.abc import Iterable, Mapping

from pydantic_core import to_json

from services.gateway.project_cache import ProjectCache
from shared import ids
from shared.contracts.generation.projects import STANDARD_FEEDBACK, FeedbackClass, FeedbackLabel, FeedbackType
from shared.contracts.logs import Feedback, FeedbackGiven, FeedbackValue, LogRecord
from shared.errors import Invalid

MAX_ARRIVAL_SECONDS = 30 * 60
"""How long after its id was minted a log may still arrive: a stream has the id in its first event and is logged when
it has ended, and a call to a provider may take 20 minutes (`EVERLOOP_PROVIDER_TOTAL_SECONDS`)."""
_CLOCK_SKEW_SECONDS = 60
"""How far the clocks of two gateways may differ."""
MAX_LABEL_LENGTH = 1000
MAX_TEXT_LENGTH = 100_000
"""Characters. A log with many long corrections must still fit into one document of MongoDB."""
_VALUE_TYPES: Mapping[FeedbackClass, tuple[type, ...]] = {
    "select": (str, bool, int, float),
    "multi_select": (str, bool, int, float, list),
    "text": (str,),
    "number": (int, float),
}
_VALUE_DESCRIPTIONS: Mapping[FeedbackClass, str] = {
    "select": "one of its values",
    "multi_select": "one or more of its values",
    "text": "a string",
    "number": "a number",
}


def may_still_arrive(log_id: str) -> bool:
    """Return whether a log with this id may be stored later: the id is minted, and not too long ago."""
    age_seconds = time.time() - ids.minted_at(log_id) if ids.is_id("data", log_id) else None
    return age_seconds is not None and -_CLOCK_SKEW_SECONDS < age_seconds < MAX_ARRIVAL_SECONDS


async def validate_feedback(
    project_cache: ProjectCache, organisation: str, feedback: list[FeedbackGiven], projects: Mapping[str, str]
) -> list[FeedbackGiven]:
    """Return the feedback with its `labels` set, after adding new types and labels to the projects.

    `projects` maps log ids to project ids. Feedback on a log that is not in it is validated by the types that every
    project has, and adds nothing. Raises Invalid if a type does not take a value, and then nothing is added; NotFound
    if a project is deleted.
    """
    types: dict[str | None, FeedbackTypes] = {None: FeedbackTypes(STANDARD_FEEDBACK)}
    validated = []
    for one in feedback:
        project_id = projects.get(one.log_id)
        if project_id is not None and project_id not in types:
            project_types = await project_cache.get_feedback_types(organisation, project_id)
            types[project_id] = FeedbackTypes(project_types.values())
        validated.append(one.model_copy(update={"labels": types[project_id].validate(one)}))
    for project_id, project_feedback_types in types.items():
        if project_id is not None and (additions := project_feedback_types.additions()):
            await project_cache.define_feedback_types(organisation, project_id, additions)
    return validated


async def attach_feedback(
    project_cache: ProjectCache, organisation: str, records: list[LogRecord], feedback: list[FeedbackGiven]
) -> list[LogRecord]:
    """Return the logs with the feedback sent together with them; of one type or label the last value is taken.

    Raises the errors of `validate_feedback`.
    """
    projects = {it.id: it.project_id for it in records}
    feedback_by_log: dict[str, dict[tuple[str, ...], Feedback]] = {}
    for one in await validate_feedback(project_cache, organisation, feedback, projects):
        of_log = feedback_by_log.setdefault(one.log_id, {})
        of_log.pop((one.type, *one.labels), None)
        of_log[one.type, *one.labels] = Feedback.model_validate(one.model_dump(include=set(Feedback.model_fields)))
    return [it.model_copy(update={"feedback": list(feedback_by_log.get(it.id, {}).values())}) for it in records]


class FeedbackTypes:
    """The feedback types of one project: validates feedback and collects the types and labels it adds."""

    def __init__(self, existing: Iterable[FeedbackType]) -> None:
        self._classes: dict[str, FeedbackClass] = {}
        self._labels: dict[str, set[str]] = {}
        self._added_labels: dict[str, list[str]] = {}
        for one in existing:
            self._classes[one.type] = one.kind or "text"
            self._labels[one.type] = {label.value for label in one.labels}

    def validate(self, feedback: FeedbackGiven) -> list[str]:
        """Return the labels that a multi-select's feedback sets or takes back; an empty list for every other class.

        Raises Invalid if the type does not take the value.
        """
        feedback_class = self._classes.get(feedback.type) or _infer_class(feedback.value)
        if not feedback.unset:
            _check_value(feedback, feedback_class)
        elif feedback_class == "multi_select" and feedback.value is None:
            raise Invalid(f"value: {feedback.type!r} may have several values; say which one is taken back.")
        labels = _labels(feedback) if feedback_class in ("select", "multi_select") else []
        if not feedback.unset:
            self._add(feedback.type, feedback_class, labels)
        return labels if feedback_class == "multi_select" else []

    def _add(self, name: str, feedback_class: FeedbackClass, labels: list[str]) -> None:
        existing = self._labels.setdefault(name, set())
        added = [label for label in dict.fromkeys(labels) if label not in existing]
        if added or name not in self._classes:
            self._classes[name] = feedback_class
            self._added_labels.setdefault(name, []).extend(added)
            existing.update(added)

    def additions(self) -> list[FeedbackType]:
        """Return the new types, and the existing ones that get new labels, with their new labels only."""
        return [
            FeedbackType(type=name, kind=self._classes[name], labels=[FeedbackLabel(value=label) for label in labels])
            for name, labels in self._added_labels.items()
        ]


def _infer_class(value: FeedbackValue | None) -> FeedbackClass:
    """Return the class of a new type by its first value. None takes back all there is, so it is no label: text."""
    match value:
        case bool():
            return "select"
        case int() | float():
            return "number"
        case list():
            return "multi_select"
    return "text"


def _check_value(feedback: FeedbackGiven, feedback_class: FeedbackClass) -> None:
    """Raise Invalid if the class does not take the value, or a text is too long."""
    if type(feedback.value) not in _VALUE_TYPES[feedback_class]:
        raise Invalid(
            f"value: {feedback.type!r} is of the class {feedback_class}, so its value must be "
            f"{_VALUE_DESCRIPTIONS[feedback_class]}."
        )
    if isinstance(feedback.value, str) and len(feedback.value) > MAX_TEXT_LENGTH:
        raise Invalid(f"value: {len(feedback.value):,} characters are too many; at most {MAX_TEXT_LENGTH:,} are kept.")


def _labels(feedback: FeedbackGiven) -> list[str]:
    """Return the labels that a value names; a number or a boolean as JSON text. Raises Invalid for a bad length."""
    values = feedback.value if isinstance(feedback.value, list) else [feedback.value]
    labels = [value if isinstance(value, str) else to_json(value).decode() for value in values if value is not None]
    if not feedback.unset and not labels:
        raise Invalid("value: the list is empty; name at least one value.")
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL_LENGTH:
            raise Invalid(
                f"value: {feedback.type!r} takes values of 1 to {MAX_LABEL_LENGTH:,} characters, not {len(label):,}."
            )
    return labels
