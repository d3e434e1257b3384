"""Decodes messages of the `LOGS` stream into records with their position in the order of acceptance."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from shared.contracts.logs import (
    INTAKE,
    Audited,
    FeedbackGiven,
    Intake,
    LogDeleted,
    LogRecord,
    LogUpdate,
    ProjectDeleted,
    SessionOpened,
)

R = TypeVar("R", bound=LogRecord | LogUpdate | LogDeleted | SessionOpened | ProjectDeleted | FeedbackGiven | Audited)

POSITIONS_PER_MESSAGE = 100_000
"""Positions reserved for the records of one message. The largest message, 8 MB, cannot hold more: the shortest record
takes over 80 bytes."""
_RECORD_ADAPTER: TypeAdapter[Intake] = TypeAdapter(Intake)


class Entry(NamedTuple, Generic[R]):
    """A record and its position in the order of acceptance: stream sequence x 100,000 + index in the message."""

    position: int
    record: R


class RejectedRecord(NamedTuple):
    """A record that can never be stored, with the reason, for the `DEAD` stream."""

    position: int
    reason: str
    payload: bytes
    """A JSON array that could be sent again, or the whole message if it is no JSON array."""
    organisation: str | None = None
    """None if it cannot be read."""


class Decoded(NamedTuple):
    """The records of one or more messages by kind, each kind in the order of acceptance."""

    logs: list[Entry[LogRecord]]
    updates: list[Entry[LogUpdate]]
    log_deletions: list[Entry[LogDeleted]]
    sessions: list[Entry[SessionOpened]]
    project_deletions: list[Entry[ProjectDeleted]]
    feedback: list[Entry[FeedbackGiven]]
    audited: list[Entry[Audited]]
    rejected: list[RejectedRecord]

    @classmethod
    def empty(cls) -> "Decoded":
        """Return an instance without records, to be filled by `decode_message`."""
        return cls([], [], [], [], [], [], [], [])

    @property
    def size(self) -> int:
        """The number of records, rejected ones included."""
        return sum(len(entries) for entries in self._valid) + len(self.rejected)

    def add(self, position: int, record: Intake) -> None:
        """Append a record to the list of its kind. Times without a zone become UTC: naive times cannot be compared."""
        match record:
            case LogRecord(created_at=time) if time.tzinfo is None:
                self.logs.append(Entry(position, record.model_copy(update={"created_at": time.replace(tzinfo=UTC)})))
            case LogRecord():
                self.logs.append(Entry(position, record))
            case LogUpdate(at=time):
                self.updates.append(Entry(position, record.model_copy(update={"at": _with_zone(time)})))
            case SessionOpened(created_at=time):
                self.sessions.append(Entry(position, record.model_copy(update={"created_at": _with_zone(time)})))
            case LogDeleted(at=time):
                self.log_deletions.append(Entry(position, record.model_copy(update={"at": _with_zone(time)})))
            case ProjectDeleted():
                self.project_deletions.append(Entry(position, record))
            case Audited():
                self.audited.append(Entry(position, record))
            case FeedbackGiven(created_at=time, at=accepted_at):
                zoned = {"created_at": _with_zone(time), "at": _with_zone(accepted_at)}
                self.feedback.append(Entry(position, record.model_copy(update=zoned)))

    def traceparents(self) -> Iterator[str]:
        """Yield the W3C `traceparent` of the requests that sent these records."""
        for entries in self._valid:
            for entry in entries:
                if entry.record.trace:
                    yield entry.record.trace

    @property
    def _valid(self) -> tuple[list[Entry[Any]], ...]:
        of_logs = self.logs, self.updates, self.log_deletions, self.feedback
        return *of_logs, self.sessions, self.project_deletions, self.audited


def _with_zone(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def decode_message(sequence: int, payload: bytes, into: Decoded) -> None:
    """Add the records of the message with this stream sequence to `into`.

    An invalid record is rejected alone: the other records of the message may come from other callers.
    """
    first_position = sequence * POSITIONS_PER_MESSAGE
    try:
        records = INTAKE.validate_json(payload)
    except ValidationError:
        _decode_one_by_one(first_position, payload, into)
        return
    for index, record in enumerate(records):
        into.add(first_position + index, record)


def _decode_one_by_one(first_position: int, payload: bytes, into: Decoded) -> None:
    try:
        items: Any = json.loads(payload)
    except (ValueError, RecursionError) as error:
        into.rejected.append(RejectedRecord(first_position, f"not JSON: {error}", payload))
        return
    if not isinstance(items, list):
        into.rejected.append(RejectedRecord(first_position, "not a JSON array", payload))
        return
    for index, item in enumerate(items):
        try:
            into.add(first_position + index, _RECORD_ADAPTER.validate_python(item))
        except ValidationError as error:
            into.rejected.append(
                RejectedRecord(first_position + index, f"not an entry: {_describe(error)}", json.dumps([item]).encode())
            )


def _describe(error: ValidationError) -> str:
    """Return field paths and messages of the first five errors, without the values: operators read the reason."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, line['loc']))}: {line['msg']}" for line in details[:5])


def first_of_each_id(logs: Iterable[Entry[LogRecord]]) -> list[Entry[LogRecord]]:
    """Return the log accepted first of each (organisation, id)."""
    first: dict[tuple[str, str], Entry[LogRecord]] = {}
    for entry in logs:
        first.setdefault((entry.record.organisation, entry.record.id), entry)
    return list(first.values())
