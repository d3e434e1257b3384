"""Builds the events published for a stored batch.

Message ids are derived from the positions of the records, so JetStream drops the events of a repeated batch as
duplicates.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from services.logging.decoding import Entry
from services.logging.session_resolution import LogKey, SessionAssignment, key_of
from shared import ids
from shared.contracts.audit import AuditRecorded
from shared.contracts.logs import (
    Audited,
    LogDeleted,
    LogRecord,
    LogsDeleted,
    LogsRecorded,
    LogsUpdated,
    LogUpdate,
    RecordedLog,
)
from shared.contracts.message import Event
from shared.contracts.principal import Actor

LOGS_PER_EVENT = 500
R = TypeVar("R", LogRecord, LogUpdate, LogDeleted)


class Announcement(NamedTuple):
    """An event and the message id by which JetStream recognises a duplicate."""

    event: Event
    message_id: str


def announce_recorded(
    logs: Iterable[Entry[LogRecord]], assignments: Mapping[LogKey, SessionAssignment]
) -> list[Announcement]:
    """Return `LogsRecorded` events for newly stored logs, each of one organisation and at most 500 logs."""
    return [
        Announcement(
            LogsRecorded(
                organisation=organisation, logs=[_recorded_log(entry.record, assignments) for entry in entries]
            ),
            _message_id("recorded", entries),
        )
        for organisation, entries in _chunks_by_organisation(logs)
    ]


def announce_updated(updates: Iterable[Entry[LogUpdate]]) -> list[Announcement]:
    """Return `LogsUpdated` events for applied updates, each of one organisation and at most 500 updates."""
    return [
        Announcement(
            LogsUpdated(organisation=organisation, ids=list(dict.fromkeys(entry.record.id for entry in entries))),
            _message_id("updated", entries),
        )
        for organisation, entries in _chunks_by_organisation(updates)
    ]


def announce_deleted(deletions: Iterable[Entry[LogDeleted]]) -> list[Announcement]:
    """Return `LogsDeleted` events for deleted logs, each of one organisation and actor and at most 500 logs."""
    by_actor: dict[Actor | None, list[Entry[LogDeleted]]] = {}
    for entry in deletions:
        by_actor.setdefault(entry.record.actor, []).append(entry)
    return [
        Announcement(
            LogsDeleted(
                organisation=organisation, actor=actor, ids=list(dict.fromkeys(entry.record.id for entry in entries))
            ),
            _message_id("deleted", entries),
        )
        for actor, of_actor in by_actor.items()
        for organisation, entries in _chunks_by_organisation(of_actor)
    ]


def announce_audited(audited: Iterable[Entry[Audited]]) -> list[Announcement]:
    """Return an `AuditRecorded` event for each entry of the audit log, whose id is the message id."""
    return [
        Announcement(
            AuditRecorded(organisation=entry.organisation, actor=entry.actor, occurred_at=entry.at, entry=entry),
            entry.id,
        )
        for entry in (record.entry for _, record in audited)
    ]


def _recorded_log(log: LogRecord, assignments: Mapping[LogKey, SessionAssignment]) -> RecordedLog:
    return RecordedLog(
        id=log.id,
        project_id=log.project_id,
        config_id=log.config_id,
        session_id=assignments[key_of(log)].session_id,
        parent_id=log.parent_id,
        failed=log.error is not None,
    )


def _chunks_by_organisation(entries: Iterable[Entry[R]]) -> Iterable[tuple[str, list[Entry[R]]]]:
    groups: dict[str, list[Entry[R]]] = {}
    for entry in entries:
        groups.setdefault(entry.record.organisation, []).append(entry)
    for organisation, group in groups.items():
        for start in range(0, len(group), LOGS_PER_EVENT):
            yield organisation, group[start : start + LOGS_PER_EVENT]


def _message_id(kind: str, entries: list[Entry[R]]) -> str:
    return ids.derive("fact", kind, *(str(entry.position) for entry in entries))
