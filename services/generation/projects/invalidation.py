"""Changes of projects and environments: told to everybody, and heard from other replicas, so that memories stay true.

Who changes something forgets first and then tells, before its caller is answered. The others hear of it over the
connection that brings them the next request, and before it.
"""

from collections.abc import Callable

from shared import ids
from shared.bus import Bus
from shared.contracts.projects import ProjectChanged

Forget = Callable[[ProjectChanged | None], None]
"""Forget what the change concerns; everything if None."""


class Invalidation:
    """The event `ProjectChanged`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._memories: list[Forget] = []

    def register(self, forget: Forget) -> None:
        """Have `forget` called for every change."""
        self._memories.append(forget)

    async def listen(self) -> None:
        """Hear of changes made elsewhere. Some may be missed while offline, so coming back forgets everything."""
        await self._bus.subscribe(ProjectChanged, self._forget)

    async def publish(self, change: ProjectChanged, *cause: str) -> None:
        """Announce a change that is saved; equal causes are one change. Errors: Unavailable (repeat the command)."""
        self._forget(change)
        message_id = ids.derive("evt", change.organisation, change.project_id or "", change.what, *cause)
        await self._bus.publish_event(change, message_id=message_id)

    def _forget(self, change: ProjectChanged | None) -> None:
        for forget in self._memories:
            forget(change)
