"""Which session a log belongs to: its own, else its parent's; a log whose parent is not known yet waits."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from services.logging.decoding import Entry
from shared.contracts.logs import LogRecord


class LogKey(NamedTuple):
    """A log, and the organisation without which its id means nothing."""

    organisation: str
    id: str


class SessionAssignment(NamedTuple):
    """Where a log belongs. Settled without a session: it has none and never will, for logs do not change theirs."""

    session_id: str | None
    resolved: bool = True


UNRESOLVED = SessionAssignment(None, resolved=False)


def key_of(log: LogRecord) -> LogKey:
    """The key of a log."""
    return LogKey(log.organisation, log.id)


def parent_of(log: LogRecord) -> LogKey | None:
    """The log whose session this one joins; None when its session does not depend on another log."""
    if log.session_id is not None or log.parent_id is None:
        return None
    return LogKey(log.organisation, log.parent_id)


def parents(logs: Iterable[Entry[LogRecord]]) -> set[LogKey]:
    """The logs that have to be asked for their session."""
    return {parent for entry in logs if (parent := parent_of(entry.record)) is not None}


def assign_sessions(
    logs: Iterable[Entry[LogRecord]], known: Mapping[LogKey, SessionAssignment]
) -> dict[LogKey, SessionAssignment]:
    """The home of each log of a batch. `known` are settled logs that are stored; they outrank the batch."""
    batch = {key_of(entry.record): entry.record for entry in logs}
    assignments = {key: SessionAssignment(log.session_id) for key, log in batch.items() if parent_of(log) is None}
    for key in batch:
        if key in assignments:
            continue
        path: dict[LogKey, None] = {}
        here: LogKey | None = key
        assignment: SessionAssignment | None = None
        while assignment is None and here is not None:
            assignment = assignments.get(here)
            if assignment is None:
                path[here] = None
                assignment, here = _step(batch[here], batch, known, path)
        assignments.update(dict.fromkeys(path, assignment or UNRESOLVED))
    return assignments


def _step(
    log: LogRecord,
    batch: Mapping[LogKey, LogRecord],
    known: Mapping[LogKey, SessionAssignment],
    path: Mapping[LogKey, None],
) -> tuple[SessionAssignment | None, LogKey | None]:
    """The home of a log, or the parent that has the same one."""
    parent = parent_of(log)
    if parent is None:
        return SessionAssignment(log.session_id), None
    if parent in known:
        return known[parent], None
    if parent not in batch or parent in path:
        return UNRESOLVED, None
    return None, parent
