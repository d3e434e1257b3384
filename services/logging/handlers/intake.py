"""Stores batches of the `LOGS` stream in MongoDB, then publishes their events; the batch is acknowledged after that.

Every step is idempotent, so a batch that failed half way is stored by being delivered again.
"""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice

from opentelemetry.trace import SpanKind

from services.logging.announcements import Announcement, announce_recorded, announce_updated
from services.logging.decoding import Decoded, Entry, RejectedRecord, decode_message, first_of_each_id
from services.logging.deps import Deps
from services.logging.session_resolution import (
    LogKey,
    SessionAssignment,
    assign_sessions,
    key_of,
    session_parents_of,
)
from services.logging.sessions import SessionRecord, merge_session_records, session_record_of
from shared import telemetry
from shared.bus import Batch, append_dead_letter
from shared.contracts.dead_letters import DeadLetter
from shared.contracts.logs import LOGS_SUBJECT, FeedbackGiven, LogRecord, LogUpdate, ProjectDeleted

DEAD_SUBJECT = "dead.logs"
POSITION_HEADER = "Everloop-Recorded"
MAX_RECORDS_PER_STORE = 1000
"""Records stored at once: bounds memory, and lets queries be answered in between."""
_MAX_SPAN_LINKS = 128
"""OpenTelemetry's default limit of links on a span."""


async def store_batch(batch: Batch, deps: Deps) -> None:
    """Store the records of a batch of messages and publish their events, some `MAX_RECORDS_PER_STORE` at a time."""
    decoded = Decoded.empty()
    for message in batch.messages:
        decode_message(message.metadata.sequence.stream, message.data, decoded)
        if decoded.size >= MAX_RECORDS_PER_STORE:
            await _store(decoded, deps)
            decoded = Decoded.empty()
    await _store(decoded, deps)
    deps.read_barrier.mark_stored(message.metadata.sequence.stream for message in batch.messages)


async def _store(decoded: Decoded, deps: Deps) -> None:
    if not decoded.size:
        return
    links = telemetry.span_links(list(islice(decoded.traceparents(), _MAX_SPAN_LINKS)))
    with telemetry.tracer.start_as_current_span("store logs", kind=SpanKind.CONSUMER, links=links) as span:
        span.set_attribute("messaging.batch.message_count", decoded.size)
        await _dead_letter(decoded.rejected, deps)
        await _store_deletions(decoded.deletions, deps)
        announcements = [*await _store_logs(decoded, deps), *await _store_updates(decoded.updates, deps)]
        await _store_feedback(decoded.feedback, deps)
        await asyncio.gather(
            *(
                deps.bus.publish_event(announcement.event, message_id=announcement.message_id)
                for announcement in announcements
            )
        )


async def _store_logs(decoded: Decoded, deps: Deps) -> list[Announcement]:
    """Store new logs and their sessions; return the events of those that are new and not of a deleted project."""
    logs = first_of_each_id(decoded.logs)
    assignments = assign_sessions(logs, await deps.logs.get_many_assignments(session_parents_of(logs)))
    result = await deps.logs.insert_logs(logs, assignments)
    inserted: list[Entry[LogRecord]] = []
    rejected: list[RejectedRecord] = []
    for entry in logs:
        key = key_of(entry.record)
        if key in result.rejected:
            rejected.append(_rejected_record(entry, result.rejected[key]))
        elif key not in result.duplicates:
            inserted.append(entry)
    await _dead_letter(rejected, deps)
    opened = [SessionRecord(session.organisation, session.id, session.created_at) for _, session in decoded.sessions]
    joined = (session_record_of(log, assignments[key_of(log)]) for _, log in inserted)
    await deps.sessions.upsert_sessions(merge_session_records([*opened, *filter(None, joined)]))
    projects = {(log.organisation, log.project_id) for _, log in inserted}
    _, deleted = await asyncio.gather(
        _resolve_descendants(inserted, assignments, deps), deps.deletions.get_many_deleted(projects)
    )
    await deps.deletions.mark_pending(deleted)
    if deleted:
        deps.purge.wake()
    return announce_recorded(
        [entry for entry in inserted if (entry.record.organisation, entry.record.project_id) not in deleted],
        assignments,
    )


async def _store_deletions(deletions: Iterable[Entry[ProjectDeleted]], deps: Deps) -> None:
    """Insert pending deletions of projects: from here on no read shows their logs, and `Purge` deletes them.

    A deletion is written before its logs are purged, and logs and updates are written before deletions are looked up.
    So if two replicas store a deletion and a log of its project at once, at least one of them sees the other's write.
    """
    for _, deletion in deletions:
        await deps.deletions.insert_deletion(deletion.organisation, deletion.project_id)
        deps.purge.wake()


async def _resolve_descendants(
    inserted: Iterable[Entry[LogRecord]], assignments: dict[LogKey, SessionAssignment], deps: Deps
) -> None:
    """Assign sessions to stored descendants of `inserted`, and to those of `inserted` whose parent came meanwhile.

    Both a parent and its child are written before the other is looked up. So if two replicas store them at once, at
    least one of them sees the other's write.
    """
    unresolved = [entry for entry in inserted if not assignments[key_of(entry.record)].resolved]
    resolved = {
        key: assignment for entry in inserted if (assignment := assignments[key := key_of(entry.record)]).resolved
    }
    resolved |= await deps.logs.get_many_assignments(session_parents_of(unresolved))
    by_organisation: dict[str, dict[str, SessionAssignment]] = {}
    for (organisation, log_id), assignment in resolved.items():
        by_organisation.setdefault(organisation, {})[log_id] = assignment
    for organisation, ancestors in by_organisation.items():
        await _assign_descendants(organisation, ancestors, deps)


async def _assign_descendants(organisation: str, ancestors: dict[str, SessionAssignment], deps: Deps) -> None:
    """Assign the sessions of `ancestors`, by log id, to all their unresolved descendants, at all levels.

    Sessions are written first, and the deepest generation first: after a crash half way the generations above are still
    unresolved, so the repeated batch finds them and all below. The loop finds logs that were stored meanwhile.
    """
    while generations := await _unresolved_generations(organisation, ancestors, deps):
        for assignments, session_records in reversed(generations):
            await deps.sessions.upsert_sessions(merge_session_records(session_records))
            await deps.logs.update_assignments(organisation, assignments)
            ancestors |= assignments


async def _unresolved_generations(
    organisation: str, ancestors: dict[str, SessionAssignment], deps: Deps
) -> list[tuple[dict[str, SessionAssignment], list[SessionRecord]]]:
    """Return unresolved children, grandchildren and so on: for each generation the assignments and session records."""
    generations = []
    parents = ancestors
    while children := await deps.logs.list_unresolved_children(organisation, parents):
        assignments = {log.id: parents[log.parent_id] for log in children}
        session_records = [
            SessionRecord(organisation, session_id, log.created_at, frozenset({log.project_id}))
            for log in children
            if (session_id := assignments[log.id].session_id) is not None
        ]
        generations.append((assignments, session_records))
        parents = assignments
    return generations


async def _store_updates(updates: list[Entry[LogUpdate]], deps: Deps) -> list[Announcement]:
    """Apply updates; return the events of those whose log is stored. The others are announced with their log."""
    if not updates:
        return []
    rejected = await deps.logs.update_logs(updates)
    await _dead_letter([_rejected_record(updates[index], reason) for index, reason in rejected.items()], deps)
    applied = [entry for index, entry in enumerate(updates) if index not in rejected]
    await _delete_stubs_of_deleted_projects(applied, deps)
    stored = await deps.logs.get_many_stored_keys({LogKey(update.organisation, update.id) for _, update in applied})
    return announce_updated(
        [entry for entry in applied if LogKey(entry.record.organisation, entry.record.id) in stored]
    )


async def _store_feedback(feedback: list[Entry[FeedbackGiven]], deps: Deps) -> None:
    """Add feedback to logs that are stored or still to come."""
    rejected = await deps.logs.upsert_feedback(feedback)
    await _dead_letter([_rejected_record(feedback[index], reason) for index, reason in rejected.items()], deps)


async def _delete_stubs_of_deleted_projects(updates: list[Entry[LogUpdate]], deps: Deps) -> None:
    """Delete the stubs that updates made of logs of deleted projects: no log will ever complete them."""
    projects = {(update.organisation, update.project_id) for _, update in updates if update.project_id is not None}
    if deleted := await deps.deletions.get_many_deleted(projects):
        late = (update for _, update in updates if (update.organisation, update.project_id) in deleted)
        await deps.logs.delete_stubs(LogKey(update.organisation, update.id) for update in late)


def _rejected_record(entry: Entry[LogRecord] | Entry[LogUpdate] | Entry[FeedbackGiven], reason: str) -> RejectedRecord:
    # Not pydantic's JSON: the record may have been rejected for a text that cannot be encoded as UTF-8.
    payload = json.dumps([entry.record.model_dump(exclude_none=True)], default=str)
    return RejectedRecord(entry.position, reason, payload.encode(), entry.record.organisation)


async def _dead_letter(rejected: Iterable[RejectedRecord], deps: Deps) -> None:
    """Append rejected records to `DEAD`: the payload as it could be sent again, reason and position as headers."""
    for record in rejected:
        letter = DeadLetter(
            subject=LOGS_SUBJECT,
            payload=record.payload,
            error="Invalid",
            reason=record.reason,
            last_at=datetime.now(UTC),
            organisation=record.organisation,
        )
        await append_dead_letter(
            deps.bus,
            DEAD_SUBJECT,
            letter,
            message_id=f"dead-logs-{record.position}",
            headers={POSITION_HEADER: str(record.position)},
        )
