"""A session: who takes part, its totals, and its tree of logs."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.logging.session_resolution import LogKey, SessionAssignment
from shared.contracts.logs import LogRecord, Session


class SessionRecord(NamedTuple):
    """That a session exists, since when, and which projects have logs in it."""

    organisation: str
    id: str
    created_at: datetime
    project_ids: frozenset[str] = frozenset()
    reference_id: str | None = None

    def covers(self, other: "SessionRecord") -> bool:
        """Whether `other` says nothing new."""
        return (
            self.created_at <= other.created_at
            and self.project_ids >= other.project_ids
            and (other.reference_id is None or self.reference_id is not None)
        )

    def merged_with(self, other: "SessionRecord") -> "SessionRecord":
        """What both say together."""
        return SessionRecord(
            self.organisation,
            self.id,
            min(self.created_at, other.created_at),
            self.project_ids | other.project_ids,
            self.reference_id if self.reference_id is not None else other.reference_id,
        )


def merge_session_records(found: Iterable[SessionRecord]) -> list[SessionRecord]:
    """One for each session."""
    together: dict[LogKey, SessionRecord] = {}
    for session_record in found:
        key = LogKey(session_record.organisation, session_record.id)
        known = together.get(key)
        together[key] = session_record if known is None else known.merged_with(session_record)
    return list(together.values())


def session_record_of(log: LogRecord, assignment: SessionAssignment) -> SessionRecord | None:
    """What a log says of its session."""
    if assignment.session_id is None:
        return None
    reference = log.session_reference_id if log.session_id is not None else None
    return SessionRecord(
        log.organisation, assignment.session_id, log.created_at, frozenset({log.project_id}), reference
    )


class SessionStats(NamedTuple):
    """What a session holds of one project."""

    session_id: str
    project_id: str
    logs: int
    """How many."""
    first: tuple[datetime, int]
    """When its first log was created, and that log's place in the order of acceptance."""
    first_inputs: dict[str, Any]
    last: tuple[datetime, int] | None
    """When an output was last set, and the place of its log; None if there is no output."""
    last_output: str | None
    updated_at: datetime


def summary(session_record: SessionRecord, session_stats: Sequence[SessionStats]) -> Session:
    """The session as shown. Without logs it has nothing but its beginning."""
    if not session_stats:
        return Session(
            id=session_record.id,
            reference_id=session_record.reference_id,
            project_ids=[],
            datapoints_count=0,
            created_at=session_record.created_at,
            updated_at=session_record.created_at,
        )
    by_first = sorted(session_stats, key=lambda stats: stats.first)
    outputs = [(stats.last, stats.last_output) for stats in session_stats if stats.last is not None]
    return Session(
        id=session_record.id,
        reference_id=session_record.reference_id,
        project_ids=[stats.project_id for stats in by_first],
        datapoints_count=sum(stats.logs for stats in session_stats),
        first_inputs=by_first[0].first_inputs,
        last_output=max(outputs)[1] if outputs else None,
        created_at=session_record.created_at,
        updated_at=max(session_record.created_at, *(stats.updated_at for stats in session_stats)),
    )
