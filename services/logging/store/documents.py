"""Maps log records to documents of the collection `logs` and back, and builds the pipelines that update documents.

Open JSON is stored as JSON text: exact, and free of BSON's limits on keys and depth. A document has `recorded`, the
position of its log in the order of acceptance; one without it is a stub, made by an update or feedback that came before
its log, or a tombstone: what is left of a deleted log, so that it cannot come back. A tombstone has nothing else than
`deleted`: `at`; `by`, the position of the deletion; and if the log was stored its project, session and blobs.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, get_args

from pydantic_core import from_json, to_json

from services.logging.decoding import Entry
from services.logging.feedback_state import effective_feedback
from services.logging.session_resolution import LogKey, SessionAssignment
from services.logging.store import derived_fields, feedback_fields
from shared.blobs import digests_in
from shared.contracts.logs import Feedback, FeedbackGiven, LogDeleted, LogRecord, LogUpdate, StoredLog
from shared.mongo import Document

UPDATABLE_FIELDS = ("output", "error", "duration")
"""What an update may set; `changes.<field>` then has the update's time (`at`) and position (`by`)."""
_WITHOUT_NONE = frozenset({"messages", "output_message", "tools", "tool_choice", "feedback"})
"""JSON fields whose shape is the contract's: members that are None need not be written."""

_MAPPED_BY_HAND = {"kind", "id", "organisation", "created_at", "session_id", "save"}
_SCALAR_TYPES = {str, int, float, bool, NoneType}
_SCALAR_FIELDS = tuple(
    name
    for name, field in LogRecord.model_fields.items()
    if name not in _MAPPED_BY_HAND and _SCALAR_TYPES.issuperset(get_args(field.annotation) or [field.annotation])
)
_JSON_FIELDS = tuple(name for name in LogRecord.model_fields if name not in {*_MAPPED_BY_HAND, *_SCALAR_FIELDS})
_JSON_DEFAULTS = {name: LogRecord.model_fields[name].default for name in _JSON_FIELDS}
_MICROSECONDS_FIELD = "created_microseconds"


def document_id(key: LogKey) -> str:
    """Return the `_id` of a log. It begins with the organisation, so ids of two organisations cannot collide."""
    return f"{key.organisation}/{key.id}"


def key_from_id(document_id: str) -> LogKey:
    """Return the key of the log with this `_id`."""
    organisation, _, log_id = document_id.rpartition("/")
    return LogKey(organisation, log_id)


def document_of(entry: Entry[LogRecord], assignment: SessionAssignment) -> Document:
    """Return the document of a new log. Raises OverflowError if its time in UTC is outside the years 1 to 9999."""
    log = entry.record
    values = log.__dict__
    created = log.created_at.astimezone(UTC)
    document: Document = {
        "_id": f"{log.organisation}/{log.id}",
        "organisation": log.organisation,
        "created_at": created,
        "updated_at": created,
        "recorded": entry.position,
    }
    document.update(_optional_fields(log, created, assignment))
    for name in _SCALAR_FIELDS:
        value = values[name]
        if value is not None:
            document[name] = value
    for name in _JSON_FIELDS:
        value = values[name]
        if value is not None and value != _JSON_DEFAULTS[name]:
            document[name] = to_json(value, exclude_none=name in _WITHOUT_NONE, inf_nan_mode="constants").decode()
    document.update(derived_fields.blob_fields(document))
    document.update(derived_fields.text_fields(log))
    if log.feedback:
        document.update(derived_fields.feedback_fields(log.feedback))
    return document


def _optional_fields(log: LogRecord, created: datetime, assignment: SessionAssignment) -> Iterable[tuple[str, Any]]:
    """Yield names and values of the hand-mapped fields that only some documents have."""
    if fraction := created.microsecond % 1000:
        yield _MICROSECONDS_FIELD, fraction
    if assignment.session_id is not None:
        yield "session_id", assignment.session_id
    elif not assignment.resolved:
        yield "waiting", True
    if log.output is not None:
        yield "output_at", created
    if not log.save:
        yield "save", False


def log_of(document: Document) -> StoredLog:
    """Return the log in a document that is no stub."""
    values = {name: document[name] for name in _SCALAR_FIELDS if name in document}
    for name in _JSON_FIELDS:
        if name in document:
            values[name] = from_json(document[name])
    values["feedback"] = feedback_of(document)
    key, created = key_from_id(document["_id"]), created_at_of(document)
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
    """Return the feedback in effect on the log in a document."""
    initial = from_json(document["feedback"]) if "feedback" in document else []
    return effective_feedback(map(Feedback.model_validate, initial), feedback_fields.states_of(document))


def created_at_of(document: Document) -> datetime:
    """Return `created_at` to the microsecond; BSON dates have milliseconds only."""
    created: datetime = document["created_at"]
    return created + timedelta(microseconds=document.get(_MICROSECONDS_FIELD, 0))


def inputs_of(document: Document) -> dict[str, Any]:
    """Return the inputs in a document; empty if it has none."""
    inputs: dict[str, Any] = from_json(document["inputs"]) if "inputs" in document else {}
    return inputs


def replacement_pipeline(document: Document) -> list[Document]:
    """Return the update pipeline that replaces a stub, or a later log of the same id, by `document`.

    What updates have set, and feedback, is kept.
    """
    parts: list[Any] = [{"$literal": document}]
    for name in UPDATABLE_FIELDS:
        values = {name: f"${name}"}
        if name == "output":
            values["output_at"] = "$output_at"
        parts.append({"$cond": [_exists(f"$changes.{name}"), values, {}]})
    updated_at = {"updated_at": _latest(document["updated_at"])}
    parts += [
        {"$cond": [_exists(f"${name}"), {name: f"${name}", **updated_at}, {}]}
        for name in ("changes", feedback_fields.STATES_FIELD)
    ]
    blobs = {"$setUnion": ["$blobs", document.get("blobs", [])]}
    parts.append({"$cond": [_exists("$blobs"), {"blobs": blobs}, {}]})
    return [{"$replaceWith": {"$mergeObjects": parts}}]


def update_pipeline(entry: Entry[LogUpdate]) -> list[Document]:
    """Return the update pipeline of a log update, which may be applied in any order and repeatedly.

    Of two updates that set a field the one with the later `at` wins, then the one accepted later.
    """
    update = entry.record
    at = update.at.astimezone(UTC)
    stamp = {"at": at, "by": entry.position}
    fields: Document = {"organisation": {"$literal": update.organisation}, "updated_at": _latest(at)}
    for name, value in _fields_set_by(update):
        newer = {"$gt": [stamp, f"$changes.{name}"]}
        fields[name] = {"$cond": [newer, {"$literal": value}, f"${name}"]}
        fields[f"changes.{name}"] = {"$cond": [newer, stamp, f"$changes.{name}"]}
        if name == "output":
            fields["output_at"] = {"$cond": [newer, at, "$output_at"]}
    return [{"$set": fields | _added_blobs(f"{update.output or ''}{update.error or ''}")}, _KEEP_TOMBSTONE]


def feedback_pipeline(entries: Sequence[Entry[FeedbackGiven]]) -> list[Document]:
    """Return the update pipeline that adds feedback, given or unset, to one log; `entries` has at least one."""
    at = max(entry.record.at for entry in entries)
    fields = {"organisation": {"$literal": entries[0].record.organisation}, "updated_at": _latest(at.astimezone(UTC))}
    blobs = _added_blobs("".join(str(entry.record.value) for entry in entries))
    return [{"$set": fields | feedback_fields.state_expressions(entries) | blobs}, _KEEP_TOMBSTONE]


def deletion_pipeline(entry: Entry[LogDeleted]) -> list[Document]:
    """Return the update pipeline that makes a tombstone of a log, a stub or nothing; a tombstone stays as it is."""
    deletion = entry.record
    deleted = {"at": deletion.at.astimezone(UTC), "by": entry.position}
    # What the document does not have is left out.
    deleted |= {name: f"${name}" for name in ("project_id", "session_id", "blobs")}
    fields = {
        "organisation": {"$literal": deletion.organisation},
        "deleted": {"$cond": [_exists("$deleted"), "$deleted", deleted]},
    }
    return [{"$set": fields}, _KEEP_TOMBSTONE]


def _added_blobs(text: str) -> Document:
    """Return the `$set` expression that adds the blobs of later content to those of the document."""
    digests = sorted(set(digests_in(text)))
    return {"blobs": {"$setUnion": [{"$ifNull": ["$blobs", []]}, digests]}} if digests else {}


def _fields_set_by(update: LogUpdate) -> Iterable[tuple[str, Any]]:
    for name in UPDATABLE_FIELDS:
        value = getattr(update, name)
        if value is not None:
            yield name, value


_KEEP_TOMBSTONE: Document = {
    "$replaceWith": {
        "$cond": [
            {"$ne": [{"$type": "$deleted"}, "missing"]},
            {"_id": "$_id", "organisation": "$organisation", "deleted": "$deleted"},
            "$$ROOT",
        ]
    }
}
"""The last stage of every update: it leaves nothing but the tombstone of a log that is deleted."""


def _exists(path: str) -> Document:
    return {"$ne": [{"$type": path}, "missing"]}


def _latest(time: datetime) -> Document:
    """Return the expression for the later of `time` and the stored `updated_at`; `$max` ignores a missing field."""
    return {"$max": [time, "$updated_at"]}
