"""Stores batches of the `LOGS` stream in MongoDB, then publishes their events; the batch is acknowledged after that.

Every step is idempotent, so a batch that failed half way is stored by being delivered again.
"""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice

from opentelemetry.trace import SpanKind

from services.logging.announcements import (
    Announcement,
    announce_audited,
    announce_deleted,
    announce_recorded,
    announce_updated,
)
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
from shared.blobs import digests_in
from shared.bus import Batch, append_dead_letter
from shared.contracts.dead_letters import DeadLetter
from shared.contracts.logs import LOGS_SUBJECT, FeedbackGiven, LogDeleted, LogRecord, LogUpdate, ProjectDeleted

DEAD_SUBJECT = "dead.logs"
POSITION_HEADER = "Everloop-Recorded"
MAX_RECORDS_PER_STORE = 1000
"""Records stored at once: bounds memory, and lets queries be answered in between."""
MAX_BYTES_PER_STORE = 2 * 1024 * 1024
"""Of the messages that are stored at once, for the same reasons: the next message is begun below it. Dense JSON of this
size is decoded and encoded in 0.1 s."""
_MAX_SPAN_LINKS = 128
"""OpenTelemetry's default limit of links on a span."""


async def store_batch(batch: Batch, deps: Deps) -> None:
    """Store the records of a batch of messages and publish their events, part by part."""
    decoded, size = Decoded.empty(), 0
    for message in batch.messages:
        decode_message(message.metadata.sequence.stream, message.data, decoded)
        size += len(message.data)
        if decoded.size >= MAX_RECORDS_PER_STORE or size >= MAX_BYTES_PER_STORE:
            await _store(decoded, deps)
            decoded, size = Decoded.empty(), 0
    await _store(decoded, deps)
    deps.read_barrier.mark_stored(message.metadata.sequence.stream for message in batch.messages)


async def _store(decoded: Decoded, deps: Deps) -> None:
    if not decoded.size:
        return
    links = telemetry.span_links(list(islice(decoded.traceparents(), _MAX_SPAN_LINKS)))
    with telemetry.tracer.start_as_current_span("store logs", kind=SpanKind.CONSUMER, links=links) as span:
        span.set_attribute("messaging.batch.message_count", decoded.size)
        await _dead_letter(decoded.rejected, deps)
        await _store_project_deletions(decoded.project_deletions, deps)
        announcements = [*await _store_logs(decoded, deps), *await _store_updates(decoded.updates, deps)]
        await _store_feedback(decoded.feedback, deps)
        deletions = await _store_log_deletions(decoded.log_deletions, deps)
        for group in (announcements, [*deletions, *announce_audited(decoded.audited)]):
            await asyncio.gather(*(deps.bus.publish_event(event, message_id=message_id) for event, message_id in group))


async def _store_logs(decoded: Decoded, deps: Deps) -> list[Announcement]:
    """Store new logs and their sessions; return the events of those that are new and not of a deleted project."""
    logs = first_of_each_id(decoded.logs)
    assignments = assign_sessions(logs, await deps.logs.get_many_assignments(session_parents_of(logs)))
    has_sessions = any(assignment.session_id is not None for assignment in assignments.values())
    removals = await deps.sessions.count_removals() if has_sessions else None
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
    kept = {entry.position for entry in inserted} | {record.position for record in rejected}
    dropped = (record for position, record in decoded.logs if position not in kept)
    await _note_blobs(((log.organisation, _to_json(log)) for log in dropped), deps)
    opened = [SessionRecord(session.organisation, session.id, session.created_at) for _, session in decoded.sessions]
    joined = (session_record_of(log, assignments[key_of(log)]) for _, log in inserted)
    await deps.sessions.upsert_sessions(merge_session_records([*opened, *filter(None, joined)]))
    projects = {(log.organisation, log.project_id) for _, log in inserted}
    _, deleted, removals_now = await asyncio.gather(
        _resolve_descendants(inserted, assignments, deps),
        deps.deletions.get_many_deleted(projects),
        deps.sessions.count_removals(),
    )
    if removals is not None and removals_now != removals:
        await _remove_emptied_sessions(inserted, assignments, deps)
    await deps.deletions.mark_pending(deleted)
    if deleted:
        deps.purge.wake()
    return announce_recorded(
        [entry for entry in inserted if (entry.record.organisation, entry.record.project_id) not in deleted],
        assignments,
    )


async def _remove_emptied_sessions(
    inserted: Iterable[Entry[LogRecord]], assignments: dict[LogKey, SessionAssignment], deps: Deps
) -> None:
    """Remove the sessions of logs that another replica deleted after they were stored, and before their sessions were:
    it had nothing to remove.
    """
    sessions: dict[str, set[tuple[str, str]]] = {}
    for _, log in inserted:
        if (session_id := assignments[key_of(log)].session_id) is not None:
            sessions.setdefault(log.organisation, set()).add((session_id, log.project_id))
    for organisation, of_organisation in sessions.items():
        list_with_logs = deps.log_deletions.list_sessions_with_logs
        await deps.sessions.remove_from_sessions(organisation, of_organisation, list_with_logs)


async def _store_project_deletions(deletions: Iterable[Entry[ProjectDeleted]], deps: Deps) -> None:
    """Insert pending deletions of projects: from here on no read shows their logs, and `Purge` deletes them.

    A deletion is written before its logs are purged, and logs and updates are written before deletions are looked up.
    So if two replicas store a deletion and a log of its project at once, at least one of them sees the other's write.
    """
    for _, deletion in deletions:
        await deps.unused_blobs.insert_many(deletion.organisation, deletion.blobs)
        await deps.deletions.insert_deletion(deletion.organisation, deletion.project_id)
        deps.purge.wake()


async def _resolve_descendants(
    inserted: Iterable[Entry[LogRecord]], assignments: dict[LogKey, SessionAssignment], deps: Deps
) -> None:
    """Assign sessions to stored descendants of `inserted`, and to those of `inserted` whose parent came meanwhile; if
    there are many, to the first of them, and the others get theirs beside the consumer.

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
        await deps.descendants.resolve_first(organisation, ancestors)


async def _store_updates(updates: list[Entry[LogUpdate]], deps: Deps) -> list[Announcement]:
    """Apply updates; return the events of those whose log is stored. The others are announced with their log."""
    if not updates:
        return []
    await _note_blobs(((update.organisation, f"{update.output} {update.error}") for _, update in updates), deps)
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
    await _note_blobs(((one.organisation, str(one.value)) for _, one in feedback), deps)
    rejected = await deps.logs.upsert_feedback(feedback)
    await _dead_letter([_rejected_record(feedback[index], reason) for index, reason in rejected.items()], deps)


async def _store_log_deletions(deletions: list[Entry[LogDeleted]], deps: Deps) -> list[Announcement]:
    """Delete logs, also those still to come, and take them out of their sessions; return the events of those that were
    stored. Their blobs are removed later, by `BlobRemoval`.
    """
    if not deletions:
        return []
    deleted = await deps.log_deletions.delete_logs(deletions)
    for organisation in {log.key.organisation for log in deleted}:
        logs = [log for log in deleted if log.key.organisation == organisation]
        await deps.unused_blobs.insert_many(organisation, {digest for log in logs for digest in log.blobs})
        await deps.sessions.remove_from_sessions(
            organisation,
            {(log.session_id, log.project_id) for log in logs if log.session_id and log.project_id},
            deps.log_deletions.list_sessions_with_logs,
        )
    keys = {log.key for log in deleted if log.project_id is not None}
    return announce_deleted(
        [entry for entry in deletions if LogKey(entry.record.organisation, entry.record.id) in keys]
    )


async def _note_blobs(texts: Iterable[tuple[str, str]], deps: Deps) -> None:
    """Note the blobs named in texts, given with their organisation, of records that are dropped or may be, because
    their log is deleted: `BlobRemoval` looks later whether anything names them.
    """
    digests: dict[str, set[str]] = {}
    for organisation, text in texts:
        digests.setdefault(organisation, set()).update(digests_in(text))
    for organisation, of_organisation in digests.items():
        await deps.unused_blobs.insert_many(organisation, of_organisation)


async def _delete_stubs_of_deleted_projects(updates: list[Entry[LogUpdate]], deps: Deps) -> None:
    """Delete the stubs that updates made of logs of deleted projects: no log will ever complete them."""
    projects = {(update.organisation, update.project_id) for _, update in updates if update.project_id is not None}
    if deleted := await deps.deletions.get_many_deleted(projects):
        late = (update for _, update in updates if (update.organisation, update.project_id) in deleted)
        await deps.log_deletions.delete_stubs(LogKey(update.organisation, update.id) for update in late)


def _rejected_record(entry: Entry[LogRecord] | Entry[LogUpdate] | Entry[FeedbackGiven], reason: str) -> RejectedRecord:
    return RejectedRecord(entry.position, reason, f"[{_to_json(entry.record)}]".encode(), entry.record.organisation)


def _to_json(record: LogRecord | LogUpdate | FeedbackGiven) -> str:
    # Not pydantic's JSON: the record may have a text that cannot be encoded as UTF-8.
    return json.dumps(record.model_dump(exclude_none=True), default=str)


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
