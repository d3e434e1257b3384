"""From the stream to the database: a batch is stored, then announced, then acknowledged. Every step may be repeated."""

import asyncio
import json
from collections.abc import Iterable
from itertools import islice

from opentelemetry.trace import SpanKind

from services.logging import announcements
from services.logging.decoding import Decoded, Entry, Refused, decode, first_of_each, nothing
from services.logging.deps import Deps
from services.logging.session_resolution import Home, Key, find_homes, key_of, parents
from services.logging.sessions import Presence, presence_of, presences
from shared import telemetry
from shared.bus import Batch
from shared.contracts.logs import FeedbackGiven, LogRecord, LogUpdate, ProjectDeleted

DEAD_SUBJECT = "dead.logs"
REASON = "Everloop-Reason"
_MOST_DEAD_BYTES = 7 * 1024 * 1024
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
    deps.position.stored(message.metadata.sequence.stream for message in batch.messages)


async def _store(decoded: Decoded, deps: Deps) -> None:
    if not decoded.size:
        return
    links = telemetry.links(list(islice(decoded.traces(), _MOST_LINKS)))
    with telemetry.tracer.start_as_current_span("store logs", kind=SpanKind.CONSUMER, links=links) as span:
        span.set_attribute("messaging.batch.message_count", decoded.size)
        await _bury(decoded.refused, deps)
        await _note(decoded.deletions, deps)
        found = [*await _record(decoded, deps), *await _change(decoded.updates, deps)]
        await _say(decoded.feedback, deps)
        await asyncio.gather(*(deps.bus.announce(fact.event, message_id=fact.message_id) for fact in found))


async def _record(decoded: Decoded, deps: Deps) -> list[announcements.Fact]:
    """Store new logs and their sessions."""
    logs = first_of_each(decoded.logs)
    homes = find_homes(logs, await deps.logs.homes(parents(logs)))
    added = await deps.logs.add(logs, homes)
    kept: list[Entry[LogRecord]] = []
    refused: list[Refused] = []
    for entry in logs:
        key = key_of(entry.record)
        if key in added.refused:
            refused.append(_refusal(entry, added.refused[key]))
        elif key not in added.repeats:
            kept.append(entry)
    await _bury(refused, deps)
    opened = [Presence(one.organisation, one.id, one.created_at) for _, one in decoded.sessions]
    taking_part = (presence_of(log, homes[key_of(log)]) for _, log in kept)
    await deps.sessions.include(presences([*opened, *filter(None, taking_part)]))
    projects = {(log.organisation, log.project_id) for _, log in kept}
    _, gone = await asyncio.gather(_gather_families(kept, homes, deps), deps.deletions.among(projects))
    await deps.deletions.reopen(gone)
    if gone:
        deps.removal.wake()
    return announcements.recorded(
        [one for one in kept if (one.record.organisation, one.record.project_id) not in gone], homes
    )


async def _note(deletions: Iterable[Entry[ProjectDeleted]], deps: Deps) -> None:
    """Remember that projects are gone: from here on nobody sees what they have. It is removed beside storing.

    Remembering comes before removing, and storing before looking in `_record` and `_change`: so of a deletion and a log
    of the project in the hands of two replicas at once at least one sees the other.
    """
    for _, one in deletions:
        await deps.deletions.remember(one.organisation, one.project_id)
        deps.removal.wake()


async def _gather_families(kept: Iterable[Entry[LogRecord]], homes: dict[Key, Home], deps: Deps) -> None:
    """Let the logs that waited for these settle, and those of these whose parent another replica has just stored.

    Looking comes after storing on both sides, so that of a parent and a child stored at the same moment by two
    replicas at least one sees the other.
    """
    late = [entry for entry in kept if not homes[key_of(entry.record)].settled]
    settled = {key: home for entry in kept if (home := homes[key := key_of(entry.record)]).settled}
    settled |= await deps.logs.homes(parents(late))
    by_organisation: dict[str, dict[str, Home]] = {}
    for (organisation, log_id), home in settled.items():
        by_organisation.setdefault(organisation, {})[log_id] = home
    for organisation, ancestors in by_organisation.items():
        await _spread(organisation, ancestors, deps)


async def _spread(organisation: str, homes: dict[str, Home], deps: Deps) -> None:
    """Settle all who wait for `homes`, at all levels.

    Sessions first and the youngest generation first: after a crash half way those above still wait, so that the
    repeated batch finds them and all below them. Looking again finds who came meanwhile.
    """
    while generations := await _waiting_generations(organisation, homes, deps):
        for generation, taking_part in reversed(generations):
            await deps.sessions.include(presences(taking_part))
            await deps.logs.settle(organisation, generation)
            homes |= generation


async def _waiting_generations(
    organisation: str, homes: dict[str, Home], deps: Deps
) -> list[tuple[dict[str, Home], list[Presence]]]:
    """Children, grandchildren and so on, each with its home, and what they say of their sessions."""
    generations = []
    parents_homes = homes
    while found := await deps.logs.waiting(organisation, parents_homes):
        generation = {log.id: parents_homes[log.parent_id] for log in found}
        taking_part = [
            Presence(organisation, session_id, log.created_at, frozenset({log.project_id}))
            for log in found
            if (session_id := generation[log.id].session_id) is not None
        ]
        generations.append((generation, taking_part))
        parents_homes = generation
    return generations


async def _change(updates: list[Entry[LogUpdate]], deps: Deps) -> list[announcements.Fact]:
    """Apply updates. One whose log is not there yet is no fact: the log will be announced with it."""
    if not updates:
        return []
    refused = await deps.logs.change(updates)
    await _bury([_refusal(updates[index], reason) for index, reason in refused.items()], deps)
    applied = [entry for index, entry in enumerate(updates) if index not in refused]
    await _drop_late(applied, deps)
    present = await deps.logs.present({Key(update.organisation, update.id) for _, update in applied})
    return announcements.updated(
        [entry for entry in applied if Key(entry.record.organisation, entry.record.id) in present]
    )


async def _say(feedback: list[Entry[FeedbackGiven]], deps: Deps) -> None:
    """Add what was said about logs, be they there or still to come."""
    refused = await deps.logs.say(feedback)
    await _bury([_refusal(feedback[index], reason) for index, reason in refused.items()], deps)


async def _drop_late(updates: list[Entry[LogUpdate]], deps: Deps) -> None:
    """Updates whose log has gone with its project have made stubs that no log will ever complete: remove them."""
    projects = {(one.organisation, one.project_id) for _, one in updates if one.project_id is not None}
    if gone := await deps.deletions.among(projects):
        late = (one for _, one in updates if (one.organisation, one.project_id) in gone)
        await deps.logs.remove_stubs(Key(one.organisation, one.id) for one in late)


def _refusal(entry: Entry[LogRecord] | Entry[LogUpdate] | Entry[FeedbackGiven], reason: str) -> Refused:
    # Not pydantic's JSON: what refused the record may be a text that cannot be written as UTF-8.
    payload = json.dumps([entry.record.model_dump(exclude_none=True)], default=str)
    return Refused(entry.recorded, reason, payload.encode())


async def _bury(refused: Iterable[Refused], deps: Deps) -> None:
    """Keep what can never be stored in `DEAD`: the entry as it would be sent again, and the reason as a header."""
    for one in refused:
        await deps.bus.append(
            DEAD_SUBJECT,
            one.payload[:_MOST_DEAD_BYTES],
            message_id=f"dead-logs-{one.recorded}",
            headers={REASON: " ".join(one.reason.split())[:500], "Everloop-Recorded": str(one.recorded)},
        )
