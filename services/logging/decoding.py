"""What a message of `LOGS` carries: entries with their place in the order of acceptance."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from shared.contracts.logs import INTAKE, FeedbackGiven, Intake, LogRecord, LogUpdate, ProjectDeleted, SessionOpened

R = TypeVar("R", bound=LogRecord | LogUpdate | SessionOpened | ProjectDeleted | FeedbackGiven)

MOST_PER_MESSAGE = 100_000
"""A message of 8 MB cannot hold so many: the shortest entry takes over 80 bytes."""
_ONE: TypeAdapter[Intake] = TypeAdapter(Intake)


class Entry(NamedTuple, Generic[R]):
    """A record and its place: sequence in the stream x 100,000 + index in the message."""

    recorded: int
    record: R


class RejectedRecord(NamedTuple):
    """What can never be stored, and why."""

    recorded: int
    reason: str
    payload: bytes
    organisation: str | None = None
    """None if it cannot be read."""


class Decoded(NamedTuple):
    """The content of one or more messages, in order."""

    logs: list[Entry[LogRecord]]
    updates: list[Entry[LogUpdate]]
    sessions: list[Entry[SessionOpened]]
    deletions: list[Entry[ProjectDeleted]]
    feedback: list[Entry[FeedbackGiven]]
    refused: list[RejectedRecord]

    @property
    def size(self) -> int:
        """How many entries, the refused included."""
        return sum(len(entries) for entries in self._readable) + len(self.refused)

    def add(self, recorded: int, record: Intake) -> None:
        """Sort a record in. A time without a zone is UTC: times are compared, and those without cannot be."""
        match record:
            case LogRecord(created_at=time) if time.tzinfo is None:
                self.logs.append(Entry(recorded, record.model_copy(update={"created_at": time.replace(tzinfo=UTC)})))
            case LogRecord():
                self.logs.append(Entry(recorded, record))
            case LogUpdate(at=time):
                self.updates.append(Entry(recorded, record.model_copy(update={"at": _zoned(time)})))
            case SessionOpened(created_at=time):
                self.sessions.append(Entry(recorded, record.model_copy(update={"created_at": _zoned(time)})))
            case ProjectDeleted():
                self.deletions.append(Entry(recorded, record))
            case FeedbackGiven(created_at=time, at=accepted):
                zoned = {"created_at": _zoned(time), "at": _zoned(accepted)}
                self.feedback.append(Entry(recorded, record.model_copy(update=zoned)))

    def traces(self) -> Iterator[str]:
        """The requests that caused these entries."""
        for entries in self._readable:
            for entry in entries:
                if entry.record.trace:
                    yield entry.record.trace

    @property
    def _readable(self) -> tuple[list[Entry[Any]], ...]:
        return self.logs, self.updates, self.sessions, self.deletions, self.feedback


def _zoned(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def nothing() -> Decoded:
    """No content yet."""
    return Decoded([], [], [], [], [], [])


def decode(sequence: int, payload: bytes, into: Decoded) -> None:
    """Add the entries of one message; an entry that cannot be read is refused alone: others sent the rest."""
    first = sequence * MOST_PER_MESSAGE
    try:
        records = INTAKE.validate_json(payload)
    except ValidationError:
        _decode_one_by_one(first, payload, into)
        return
    for index, record in enumerate(records):
        into.add(first + index, record)


def _decode_one_by_one(first: int, payload: bytes, into: Decoded) -> None:
    try:
        items: Any = json.loads(payload)
    except (ValueError, RecursionError) as error:
        into.refused.append(RejectedRecord(first, f"not JSON: {error}", payload))
        return
    if not isinstance(items, list):
        into.refused.append(RejectedRecord(first, "not a JSON array", payload))
        return
    for index, item in enumerate(items):
        try:
            into.add(first + index, _ONE.validate_python(item))
        except ValidationError as error:
            into.refused.append(
                RejectedRecord(first + index, f"not an entry: {_sentence(error)}", json.dumps([item]).encode())
            )


def _sentence(error: ValidationError) -> str:
    """What is wrong and where, without the values: reasons are read by operators."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, line['loc']))}: {line['msg']}" for line in found[:5])


def first_of_each(logs: Iterable[Entry[LogRecord]]) -> list[Entry[LogRecord]]:
    """Of several logs with one id, the one accepted first."""
    first: dict[tuple[str, str], Entry[LogRecord]] = {}
    for entry in logs:
        first.setdefault((entry.record.organisation, entry.record.id), entry)
    return list(first.values())
