"""Keeps the audit log: stores the entries that services announce, and answers `ListAuditEntries`."""

from datetime import UTC, datetime

from nats.aio.msg import Msg
from pydantic import ValidationError

from services.authz.deps import Deps
from services.authz.membership.access import authorize_now
from shared.bus import Batch, Router, append_dead_letter
from shared.contracts.audit import AuditEntries, AuditEntry, AuditRecorded, ListAuditEntries
from shared.contracts.dead_letters import DeadLetter
from shared.contracts.permissions import EDIT_ORGANISATION

router = Router[Deps]()

READER = "authz-audit"
"""The durable consumer of `EVENTS`: its acknowledgements say which entries are stored."""
DEAD_SUBJECT = "dead.audit"


async def store_batch(batch: Batch, deps: Deps) -> None:
    """Store the entries of a batch of events, each once; an event that cannot be read goes to `DEAD`."""
    entries: list[AuditEntry] = []
    for message in batch.messages:
        try:
            entries.append(_read(message))
        except ValueError as error:
            await _dead_letter(message, error, deps)
    if entries:
        await deps.stores.audit.insert_many(entries)


@router.answers(ListAuditEntries)
async def list_entries(query: ListAuditEntries, deps: Deps) -> AuditEntries:
    """Return a page of the organisation's audit log, newest first. Raises Denied."""
    authorize_now(query.principal, await deps.stores.organisations.get(query.organisation), EDIT_ORGANISATION)
    return await deps.stores.audit.list_page(query)


def _read(message: Msg) -> AuditEntry:
    """Return the entry of an event. Raises ValueError if it cannot be read, or was sent for another organisation."""
    event = AuditRecorded.model_validate_json(message.data)
    if event.subject != message.subject or event.entry.organisation != event.organisation:
        raise ValueError("the entry is of another organisation than the event")
    return event.entry


async def _dead_letter(message: Msg, error: ValueError, deps: Deps) -> None:
    reason = str(error)
    if isinstance(error, ValidationError):
        reason = "wrong: " + ", ".join(".".join(map(str, line["loc"])) for line in error.errors())
    letter = DeadLetter(
        subject=message.subject,
        payload=message.data,
        error="Invalid",
        reason=f"not an entry; {reason}",
        last_at=datetime.now(UTC),
    )
    message_id = f"dead-audit-{message.metadata.sequence.stream}"
    await append_dead_letter(deps.bus, DEAD_SUBJECT, letter, message_id=message_id)
