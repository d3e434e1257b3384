"""Sessions: what is stored of one, the statistics computed from its logs, and the summary that callers see."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.logging.session_resolution import LogKey, SessionAssignment
from shared.contracts.logs import LogRecord, Session


class SessionRecord(NamedTuple):
    """A session as stored: when it began, and which projects have logs in it."""

    organisation: str
    id: str
    created_at: datetime
    project_ids: frozenset[str] = frozenset()
    reference_id: str | None = None

    def covers(self, other: "SessionRecord") -> bool:
        """Return whether merging `other`, of the same session, would change nothing."""
        return (
            self.created_at <= other.created_at
            and self.project_ids >= other.project_ids
            and (other.reference_id is None or self.reference_id is not None)
        )

    def merged_with(self, other: "SessionRecord") -> "SessionRecord":
        """Return the record with the earlier beginning, all projects of both, and the first reference there is."""
        return SessionRecord(
            self.organisation,
            self.id,
            min(self.created_at, other.created_at),
            self.project_ids | other.project_ids,
            self.reference_id if self.reference_id is not None else other.reference_id,
        )


def merge_session_records(records: Iterable[SessionRecord]) -> list[SessionRecord]:
    """Return one merged record for each session in `records`."""
    merged: dict[LogKey, SessionRecord] = {}
    for record in records:
        key = LogKey(record.organisation, record.id)
        previous = merged.get(key)
        merged[key] = record if previous is None else previous.merged_with(record)
    return list(merged.values())


def session_record_of(log: LogRecord, assignment: SessionAssignment) -> SessionRecord | None:
    """Return the session record that a log implies; None if the log has no session.

    The log's session reference counts only if the log names its session itself instead of inheriting it.
    """
    if assignment.session_id is None:
        return None
    reference = log.session_reference_id if log.session_id is not None else None
    return SessionRecord(
        log.organisation, assignment.session_id, log.created_at, frozenset({log.project_id}), reference
    )


class SessionStats(NamedTuple):
    """Statistics of the logs that a session has of one project."""

    session_id: str
    project_id: str
    log_count: int
    first_log: tuple[datetime, int]
    """`created_at` of its first log, and that log's position in the order of acceptance."""
    first_inputs: dict[str, Any]
    last_output_set: tuple[datetime, int] | None
    """When an output was last set, and the position of its log; None if there is no output."""
    last_output: str | None
    updated_at: datetime


def session_summary(record: SessionRecord, stats: Sequence[SessionStats]) -> Session:
    """Return the session as callers see it. `stats` has one row a project; without rows the session is empty."""
    if not stats:
        return Session(
            id=record.id,
            reference_id=record.reference_id,
            project_ids=[],
            datapoints_count=0,
            created_at=record.created_at,
            updated_at=record.created_at,
        )
    by_first_log = sorted(stats, key=lambda row: row.first_log)
    outputs = [(row.last_output_set, row.last_output) for row in stats if row.last_output_set is not None]
    return Session(
        id=record.id,
        reference_id=record.reference_id,
        project_ids=[row.project_id for row in by_first_log],
        datapoints_count=sum(row.log_count for row in stats),
        first_inputs=by_first_log[0].first_inputs,
        last_output=max(outputs)[1] if outputs else None,
        created_at=record.created_at,
        updated_at=max(record.created_at, *(row.updated_at for row in stats)),
    )
