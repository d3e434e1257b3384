"""The audit log's outbox: an entry is saved in the transaction of the change it tells of, and announced from there.

So there is no change without its entry, and no entry without its change. A handler that changes something does

    revoked = await deps.audit.record(
        lambda session: deps.stores.keys.revoke(command.organisation, command.id, session),
        lambda key: audit_entry("api_key.revoked", command.principal, command.organisation, AuditObject(...)),
    )

The relay announces the entries as `AuditRecorded` on the stream `EVENTS`, which `authz` reads (docs/decisions/0021).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import JsonValue

from shared import ids, mongo, telemetry
from shared.bus import Bus
from shared.contracts.audit import AuditEntry, AuditObject, AuditRecorded
from shared.contracts.audit_actions import AuditAction
from shared.contracts.principal import Principal
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")
Change = Callable[[mongo.Session], Awaitable[T | None]]
"""Writes with the session; returns None or False if there was nothing to change. `mongo.transaction` may repeat it."""
Describe = Callable[[T], AuditEntry | Sequence[AuditEntry]]
"""Returns the entries for what a change returned, none if it needs none."""

COLLECTION = "audit_outbox"
_POLL_SECONDS = 5.0
"""How often entries are looked for that a process left which was killed; its own are announced at once."""
_FIRST_RETRY_SECONDS = 0.1
_MAX_RETRY_SECONDS = 5.0
_MAX_ENTRIES = 100
"""Announced at once."""
_MAX_TEXT = 255
"""Characters of a text in an entry: callers choose names."""
_MAX_LIST = 20
"""Elements of a list in an entry."""


def audit_entry(
    action: AuditAction,
    principal: Principal | None,
    organisation: str,
    changed: AuditObject,
    cause: Sequence[str] = (),
    details: Mapping[str, JsonValue] | None = None,
) -> AuditEntry:
    """Return the entry for a change that is made now, with the trace of the request in hand.

    `cause` identifies the change, if a repeat of the command could save it again: equal causes are one entry. `details`
    must hold no secret; texts over 255 characters and lists over 20 elements are cut.
    """
    now = datetime.now(UTC)
    return AuditEntry(
        id=ids.derive("aud", organisation, action, *cause) if cause else ids.mint("aud"),
        organisation=organisation,
        at=now.replace(microsecond=now.microsecond // 1000 * 1000),  # as MongoDB keeps times
        actor=None if principal is None else principal.actor,
        address=None if principal is None else principal.address,
        action=action,
        object=changed.model_copy(update={"name": changed.name and changed.name[:_MAX_TEXT]}),
        details={name: _cut(value) for name, value in (details or {}).items()},
        trace=telemetry.trace_id(),
    )


def _cut(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_cut(one) for one in value[:_MAX_LIST]]
    return value[:_MAX_TEXT] if isinstance(value, str) else value


@mongo.raises_unavailable
class AuditOutbox:
    """The entries of a service's database that are not announced yet."""

    def __init__(self, database: mongo.Database, bus: Bus) -> None:
        self._database = database
        self._entries = database[COLLECTION]
        self._bus = bus
        self._recorded = asyncio.Event()

    async def prepare(self) -> None:
        """Create the index by which the oldest are found, and with it the collection."""
        await self._entries.create_index([("at", 1)], name="oldest")

    async def record(self, change: Change[T], describe: Describe[T]) -> T | None:
        """Run `change` in a transaction that also saves the entries `describe` returns for its result; return that.

        If the result is None or False, nothing is saved and `describe` is not called. Raises what `change` raises,
        and Unavailable as `mongo.transaction` does.
        """

        async def change_with_entries(session: mongo.Session) -> T | None:
            result = await change(session)
            if result is not None and result is not False:
                described = describe(result)
                await self.save([described] if isinstance(described, AuditEntry) else described, session)
            return result

        result = await mongo.transaction(self._database, change_with_entries)
        self._recorded.set()
        return result

    async def save(self, entries: Sequence[AuditEntry], session: mongo.Session) -> None:
        """Save entries in a transaction that the caller has, for the relay to announce; one with a known id is kept.

        Call `wake` when the transaction is committed.
        """
        for entry in entries:
            document = {"at": entry.at, "content": entry.model_dump_json(exclude_none=True)}
            await self._entries.update_one({"_id": entry.id}, {"$setOnInsert": document}, upsert=True, session=session)

    def wake(self) -> None:
        """Have the relay announce what was saved now."""
        self._recorded.set()

    def start(self) -> None:
        """Start the relay, which runs until the bus is closed; what is left then is announced by the next process."""
        task = self._bus.supervise(self._relay(), "announce entries of the audit log")

        async def stop() -> None:
            task.cancel()
            await asyncio.wait({task})

        self._bus.on_close(stop)

    async def _relay(self) -> None:
        """Announce the entries and remove each when it is durable in the stream; run until cancelled.

        Also those of a process that was killed: all replicas look for some every five seconds. An entry that two of
        them announce, or one does again, has one message id, and readers know it by its id.
        """
        delay = _FIRST_RETRY_SECONDS
        while True:
            self._recorded.clear()
            try:
                await self._announce_all()
            except Unavailable as error:
                logger.warning("entries of the audit log wait to be announced", extra={"error": error.message})
                await asyncio.sleep(delay)
                delay = min(2 * delay, _MAX_RETRY_SECONDS)
                continue
            delay = _FIRST_RETRY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._recorded.wait()

    async def _announce_all(self) -> None:
        while documents := [one async for one in self._entries.find({}, sort=[("at", 1)], limit=_MAX_ENTRIES)]:
            await asyncio.gather(*(self._announce(document["content"]) for document in documents))
            await self._entries.delete_many({"_id": {"$in": [document["_id"] for document in documents]}})

    async def _announce(self, content: str) -> None:
        entry = AuditEntry.model_validate_json(content)
        event = AuditRecorded(organisation=entry.organisation, actor=entry.actor, occurred_at=entry.at, entry=entry)
        await self._bus.publish_event(event, message_id=entry.id)
