"""Resolves the session of each log of a batch: its own, else that of its parent.

A log whose ancestors are not all known stays unresolved until they are stored.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from services.logging.decoding import Entry
from shared.contracts.logs import LogRecord


class LogKey(NamedTuple):
    """Organisation and id of a log; ids are unique only within an organisation."""

    organisation: str
    id: str


class SessionAssignment(NamedTuple):
    """The session of a log. Resolved with `session_id` None: it has none and never will, sessions of logs are final."""

    session_id: str | None
    resolved: bool = True


UNRESOLVED = SessionAssignment(None, resolved=False)


def key_of(log: LogRecord) -> LogKey:
    """Return the key of a log."""
    return LogKey(log.organisation, log.id)


def session_parent_of(log: LogRecord) -> LogKey | None:
    """Return the key of the parent whose session `log` inherits; None if it has a session of its own or no parent."""
    if log.session_id is not None or log.parent_id is None:
        return None
    return LogKey(log.organisation, log.parent_id)


def session_parents_of(logs: Iterable[Entry[LogRecord]]) -> set[LogKey]:
    """Return the keys of all parents whose session one of `logs` inherits, to be looked up in the store."""
    return {parent for entry in logs if (parent := session_parent_of(entry.record)) is not None}


def assign_sessions(
    logs: Iterable[Entry[LogRecord]], stored: Mapping[LogKey, SessionAssignment]
) -> dict[LogKey, SessionAssignment]:
    """Return the assignment of each log of a batch.

    It is `UNRESOLVED` where an ancestor is unknown or the parents form a loop. `stored` holds the resolved assignments
    of stored parents; they take precedence over logs of the batch.
    """
    batch = {key_of(entry.record): entry.record for entry in logs}
    assignments = {
        key: SessionAssignment(log.session_id) for key, log in batch.items() if session_parent_of(log) is None
    }
    for key in batch:
        if key in assignments:
            continue
        path: dict[LogKey, None] = {}
        ancestor: LogKey | None = key
        assignment: SessionAssignment | None = None
        while assignment is None and ancestor is not None:
            assignment = assignments.get(ancestor)
            if assignment is None:
                path[ancestor] = None
                assignment, ancestor = _assignment_or_parent(batch[ancestor], batch, stored, path)
        assignments.update(dict.fromkeys(path, assignment or UNRESOLVED))
    return assignments


def _assignment_or_parent(
    log: LogRecord,
    batch: Mapping[LogKey, LogRecord],
    stored: Mapping[LogKey, SessionAssignment],
    path: Mapping[LogKey, None],
) -> tuple[SessionAssignment | None, LogKey | None]:
    """Return the assignment of a log, or else its parent in the batch, which has the same one.

    `path` holds the descendants walked so far; a parent among them is a loop.
    """
    parent = session_parent_of(log)
    if parent is None:
        return SessionAssignment(log.session_id), None
    if parent in stored:
        return stored[parent], None
    if parent not in batch or parent in path:
        return UNRESOLVED, None
    return None, parent
