"""Announces changes of access, so that every process forgets the callers they may concern."""

from services.authz.callers import CallerCache
from shared import ids
from shared.bus import Bus
from shared.contracts.access.authentication import AccessChanged
from shared.contracts.principal import Actor


class AccessChanges:
    """Publishes `AccessChanged` after a change has been stored."""

    def __init__(self, bus: Bus, callers: CallerCache) -> None:
        self._bus = bus
        self._callers = callers

    async def announce(self, organisation: str, what: str, actor: Actor | None, *cause: str) -> None:
        """Publish that access in an organisation changed; a repeat with the same `cause` is one event.

        Raises Unavailable; the caller repeats the command then, and with it the announcement.
        """
        self._callers.invalidate(organisation)
        await self._bus.publish_event(
            AccessChanged(organisation=organisation, actor=actor, what=what),
            message_id=ids.derive("evt", what, organisation, *cause),
        )
