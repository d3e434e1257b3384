"""From the stream to the database: a batch is stored, then announced, then acknowledged. Every step may be repeated."""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice

from opentelemetry.trace import SpanKind

from services.logging import announcements
from services.logging.decoding import Decoded, Entry, RejectedRecord, decode, first_of_each, nothing
from services.logging.deps import Deps
from services.logging.session_resolution import LogKey, SessionAssignment, assign_sessions, key_of, parents
from services.logging.sessions import SessionRecord, merge_session_records, session_record_of
from shared import telemetry
from shared.bus import Batch, append_dead_letter
from shared.contracts.dead_letters import DeadLetter
from shared.contracts.logs import LOGS_SUBJECT, FeedbackGiven, LogRecord, LogUpdate, ProjectDeleted

DEAD_SUBJECT = "dead.logs"
MOST_ENTRIES = 1000
_MOST_LINKS = 128
"""OpenTelemetry's default limit of links on a span."""


async def store_batch(batch: Batch, deps: Deps) -> None:
    """Store the entries of some messages and tell who listens, some thousand entries at a time.

    Smaller bites keep memory small, and questions are answered in between.
    """
    decoded = nothing()
    for message in batch.messages:
        decode(message.metadata.sequence.stream, message.data, decoded)
        if decoded.size >= MOST_ENTRIES:
            await _store(decoded, deps)
            decoded = nothing()
    await _store(decoded, deps)
    deps.read_barrier.stored(message.metadata.sequence.stream for message in batch.messages)


async def _store(decoded: Decoded, deps: Deps) -> None:
    if not decoded.size:
        return
    links = telemetry.links(list(islice(decoded.traces(), _MOST_LINKS)))
    with telemetry.tracer.start_as_current_span("store logs", kind=SpanKind.CONSUMER, links=links) as span:
        span.set_attribute("messaging.batch.message_count", decoded.size)
        await _dead_letter(decoded.refused, deps)
        await _note(decoded.deletions, deps)
        found = [*await _record(decoded, deps), *await _change(decoded.updates, deps)]
        await _store_feedback(decoded.feedback, deps)
        await asyncio.gather(
            *(deps.bus.publish_event(announcement.event, message_id=announcement.message_id) for announcement in found)
        )


async def _record(decoded: Decoded, deps: Deps) -> list[announcements.Announcement]:
    """Store new logs and their sessions."""
    logs = first_of_each(decoded.logs)
    assignments = assign_sessions(logs, await deps.logs.assignments(parents(logs)))
    added = await deps.logs.add(logs, assignments)
    kept: list[Entry[LogRecord]] = []
    refused: list[RejectedRecord] = []
    for entry in logs:
        key = key_of(entry.record)
        if key in added.refused:
            refused.append(_refusal(entry, added.refused[key]))
        elif key not in added.repeats:
            kept.append(entry)
    await _dead_letter(refused, deps)
    opened = [SessionRecord(one.organisation, one.id, one.created_at) for _, one in decoded.sessions]
    taking_part = (session_record_of(log, assignments[key_of(log)]) for _, log in kept)
    await deps.sessions.include(merge_session_records([*opened, *filter(None, taking_part)]))
    projects = {(log.organisation, log.project_id) for _, log in kept}
    _, gone = await asyncio.gather(_assign_waiting(kept, assignments, deps), deps.deletions.among(projects))
    await deps.deletions.reopen(gone)
    if gone:
        deps.purge.wake()
    return announcements.recorded(
        [one for one in kept if (one.record.organisation, one.record.project_id) not in gone], assignments
    )


async def _note(deletions: Iterable[Entry[ProjectDeleted]], deps: Deps) -> None:
    """Remember that projects are gone: from here on nobody sees what they have. It is removed beside storing.

    Remembering comes before removing, and storing before looking in `_record` and `_change`: so of a deletion and a log
    of the project in the hands of two replicas at once at least one sees the other.
    """
    for _, one in deletions:
        await deps.deletions.remember(one.organisation, one.project_id)
        deps.purge.wake()


async def _assign_waiting(
    kept: Iterable[Entry[LogRecord]], assignments: dict[LogKey, SessionAssignment], deps: Deps
) -> None:
    """Let the logs that waited for these settle, and those of these whose parent another replica has just stored.

    Looking comes after storing on both sides, so that of a parent and a child stored at the same moment by two
    replicas at least one sees the other.
    """
    late = [entry for entry in kept if not assignments[key_of(entry.record)].resolved]
    resolved = {key: assignment for entry in kept if (assignment := assignments[key := key_of(entry.record)]).resolved}
    resolved |= await deps.logs.assignments(parents(late))
    by_organisation: dict[str, dict[str, SessionAssignment]] = {}
    for (organisation, log_id), assignment in resolved.items():
        by_organisation.setdefault(organisation, {})[log_id] = assignment
    for organisation, ancestors in by_organisation.items():
        await _spread(organisation, ancestors, deps)


async def _spread(organisation: str, assignments: dict[str, SessionAssignment], deps: Deps) -> None:
    """Settle all who wait for `homes`, at all levels.

    Sessions first and the youngest generation first: after a crash half way those above still wait, so that the
    repeated batch finds them and all below them. Looking again finds who came meanwhile.
    """
    while generations := await _waiting_generations(organisation, assignments, deps):
        for generation, taking_part in reversed(generations):
            await deps.sessions.include(merge_session_records(taking_part))
            await deps.logs.assign(organisation, generation)
            assignments |= generation


async def _waiting_generations(
    organisation: str, assignments: dict[str, SessionAssignment], deps: Deps
) -> list[tuple[dict[str, SessionAssignment], list[SessionRecord]]]:
    """Children, grandchildren and so on, each with its home, and what they say of their sessions."""
    generations = []
    parent_assignments = assignments
    while found := await deps.logs.waiting(organisation, parent_assignments):
        generation = {log.id: parent_assignments[log.parent_id] for log in found}
        taking_part = [
            SessionRecord(organisation, session_id, log.created_at, frozenset({log.project_id}))
            for log in found
            if (session_id := generation[log.id].session_id) is not None
        ]
        generations.append((generation, taking_part))
        parent_assignments = generation
    return generations


async def _change(updates: list[Entry[LogUpdate]], deps: Deps) -> list[announcements.Announcement]:
    """Apply updates. One whose log is not there yet is no fact: the log will be announced with it."""
    if not updates:
        return []
    refused = await deps.logs.change(updates)
    await _dead_letter([_refusal(updates[index], reason) for index, reason in refused.items()], deps)
    applied = [entry for index, entry in enumerate(updates) if index not in refused]
    await _drop_late(applied, deps)
    present = await deps.logs.present({LogKey(update.organisation, update.id) for _, update in applied})
    return announcements.updated(
        [entry for entry in applied if LogKey(entry.record.organisation, entry.record.id) in present]
    )


async def _store_feedback(feedback: list[Entry[FeedbackGiven]], deps: Deps) -> None:
    """Add what was said about logs, be they there or still to come."""
    refused = await deps.logs.store_feedback(feedback)
    await _dead_letter([_refusal(feedback[index], reason) for index, reason in refused.items()], deps)


async def _drop_late(updates: list[Entry[LogUpdate]], deps: Deps) -> None:
    """Updates whose log has gone with its project have made stubs that no log will ever complete: remove them."""
    projects = {(one.organisation, one.project_id) for _, one in updates if one.project_id is not None}
    if gone := await deps.deletions.among(projects):
        late = (one for _, one in updates if (one.organisation, one.project_id) in gone)
        await deps.logs.remove_stubs(LogKey(one.organisation, one.id) for one in late)


def _refusal(entry: Entry[LogRecord] | Entry[LogUpdate] | Entry[FeedbackGiven], reason: str) -> RejectedRecord:
    # Not pydantic's JSON: what refused the record may be a text that cannot be written as UTF-8.
    payload = json.dumps([entry.record.model_dump(exclude_none=True)], default=str)
    return RejectedRecord(entry.recorded, reason, payload.encode(), entry.record.organisation)


async def _dead_letter(refused: Iterable[RejectedRecord], deps: Deps) -> None:
    """Keep what can never be stored in `DEAD`: the entry as it would be sent again, and the reason as a header."""
    for one in refused:
        letter = DeadLetter(
            subject=LOGS_SUBJECT,
            payload=one.payload,
            error="Invalid",
            reason=one.reason,
            last_at=datetime.now(UTC),
            organisation=one.organisation,
        )
        await append_dead_letter(
            deps.bus,
            DEAD_SUBJECT,
            letter,
            message_id=f"dead-logs-{one.recorded}",
            headers={"Everloop-Recorded": str(one.recorded)},
        )
