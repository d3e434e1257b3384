"""Log record and stored document. Open JSON is kept as JSON text: exact, and free of BSON's limits on keys and depth.

A document has `recorded` from its log; one without it is a stub: an update or feedback came before its log.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, get_args

from pydantic_core import from_json, to_json

from services.logging.decoding import Entry
from services.logging.feedback_state import current
from services.logging.session_resolution import LogKey, SessionAssignment
from services.logging.store import feedback_fields
from shared.contracts.logs import Feedback, FeedbackGiven, LogRecord, LogUpdate, StoredLog
from shared.mongo import Document

SPARSE = frozenset({"messages", "output_message", "tools", "tool_choice", "feedback"})
"""JSON whose shape is the contract's: fields that are None need not be written."""
CHANGEABLE = ("output", "error", "duration")
"""What an update may set; `changes.<field>` then says when (`at`) and by which entry (`by`)."""

_BUILT = {"kind", "id", "organisation", "created_at", "session_id", "save"}
_SCALARS = {str, int, float, bool, NoneType}
_NATIVE = tuple(
    name
    for name, field in LogRecord.model_fields.items()
    if name not in _BUILT and _SCALARS.issuperset(get_args(field.annotation) or [field.annotation])
)
_JSON = tuple(name for name in LogRecord.model_fields if name not in {*_BUILT, *_NATIVE})
_DEFAULTS = {name: LogRecord.model_fields[name].default for name in _JSON}
_MICROSECONDS = "created_microseconds"


def id_of(key: LogKey) -> str:
    """`_id` of a log: no organisation can reach, or collide with, the logs of another."""
    return f"{key.organisation}/{key.id}"


def key_in(document_id: str) -> LogKey:
    """The key in an `_id`."""
    organisation, _, log_id = document_id.rpartition("/")
    return LogKey(organisation, log_id)


def document_of(entry: Entry[LogRecord], assignment: SessionAssignment) -> Document:
    """What is stored for a new log. Raises OverflowError for a time outside the years 1 to 9999."""
    log = entry.record
    values = log.__dict__
    created = log.created_at.astimezone(UTC)
    document: Document = {
        "_id": f"{log.organisation}/{log.id}",
        "organisation": log.organisation,
        "created_at": created,
        "updated_at": created,
        "recorded": entry.recorded,
    }
    document.update(_derived(log, created, assignment))
    for name in _NATIVE:
        value = values[name]
        if value is not None:
            document[name] = value
    for name in _JSON:
        value = values[name]
        if value is not None and value != _DEFAULTS[name]:
            document[name] = to_json(value, exclude_none=name in SPARSE, inf_nan_mode="constants").decode()
    return document


def _derived(log: LogRecord, created: datetime, assignment: SessionAssignment) -> Iterable[tuple[str, Any]]:
    """What most logs do not have."""
    if fraction := created.microsecond % 1000:
        yield _MICROSECONDS, fraction
    if assignment.session_id is not None:
        yield "session_id", assignment.session_id
    elif not assignment.resolved:
        yield "waiting", True
    if log.output is not None:
        yield "output_at", created
    if not log.save:
        yield "save", False


def log_of(document: Document) -> StoredLog:
    """The log in a document."""
    values = {name: document[name] for name in _NATIVE if name in document}
    for name in _JSON:
        if name in document:
            values[name] = from_json(document[name])
    values["feedback"] = feedback_of(document)
    key, created = key_in(document["_id"]), created_of(document)
    return StoredLog.model_validate(
        values
        | {
            "id": key.id,
            "organisation": key.organisation,
            "created_at": created,
            "updated_at": max(document["updated_at"], created),
            "session_id": document.get("session_id"),
            "save": document.get("save", True),
        }
    )


def feedback_of(document: Document) -> list[Feedback]:
    """What is said about the log in a document."""
    with_log = from_json(document["feedback"]) if "feedback" in document else []
    return current(map(Feedback.model_validate, with_log), feedback_fields.feedback_states_in(document))


def created_of(document: Document) -> datetime:
    """`created_at` to the microsecond; BSON dates have milliseconds."""
    created: datetime = document["created_at"]
    return created + timedelta(microseconds=document.get(_MICROSECONDS, 0))


def inputs_of(document: Document) -> dict[str, Any]:
    """The inputs in a document."""
    inputs: dict[str, Any] = from_json(document["inputs"]) if "inputs" in document else {}
    return inputs


def merging(document: Document) -> list[Document]:
    """Put a log in the place of a stub, or of a later log of the same id; what updates set and people said stays."""
    kept: list[Any] = [{"$literal": document}]
    for name in CHANGEABLE:
        values = {name: f"${name}"}
        if name == "output":
            values["output_at"] = "$output_at"
        kept.append({"$cond": [_present(f"$changes.{name}"), values, {}]})
    later = {"updated_at": _later(document["updated_at"])}
    kept += [
        {"$cond": [_present(f"${name}"), {name: f"${name}", **later}, {}]}
        for name in ("changes", feedback_fields.FIELD)
    ]
    return [{"$replaceWith": {"$mergeObjects": kept}}]


def changing(entry: Entry[LogUpdate]) -> list[Document]:
    """Apply an update whatever came before it: of two that set a field, the one with the later `at` wins."""
    update = entry.record
    at = update.at.astimezone(UTC)
    stamp = {"at": at, "by": entry.recorded}
    fields: Document = {"organisation": {"$literal": update.organisation}, "updated_at": _later(at)}
    for name, value in changes_of(update):
        newer = {"$gt": [stamp, f"$changes.{name}"]}
        fields[name] = {"$cond": [newer, {"$literal": value}, f"${name}"]}
        fields[f"changes.{name}"] = {"$cond": [newer, stamp, f"$changes.{name}"]}
        if name == "output":
            fields["output_at"] = {"$cond": [newer, at, "$output_at"]}
    return [{"$set": fields}]


def feedback_updates(entries: Sequence[Entry[FeedbackGiven]]) -> list[Document]:
    """Add what people say, or take back, to what is said about one log."""
    at = max(entry.record.at for entry in entries)
    fields = {"organisation": {"$literal": entries[0].record.organisation}, "updated_at": _later(at.astimezone(UTC))}
    return [{"$set": fields | feedback_fields.feedback_updates(entries)}]


def changes_of(update: LogUpdate) -> Iterable[tuple[str, Any]]:
    """The fields an update sets."""
    for name in CHANGEABLE:
        value = getattr(update, name)
        if value is not None:
            yield name, value


def _present(path: str) -> Document:
    return {"$ne": [{"$type": path}, "missing"]}


def _later(time: datetime) -> Document:
    """The later of `time` and what is stored; `$max` of expressions ignores what is missing."""
    return {"$max": [time, "$updated_at"]}
