"""Cache invalidation: changes of projects and environments are published, and caches drop what other replicas changed.

A replica that saves a change drops its own entries, then publishes the event, then answers. Other replicas receive the
event over the connection that brings them their next request, and before that request.
"""

from collections.abc import Callable

from shared import ids
from shared.bus import Bus
from shared.contracts.generation.projects import ProjectChanged

InvalidateCallback = Callable[[ProjectChanged | None], None]
"""Drops what the change concerns; everything if None."""


class Invalidation:
    """Publishes and receives `ProjectChanged`, and calls the registered callbacks for each."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._callbacks: list[InvalidateCallback] = []

    def register(self, callback: InvalidateCallback) -> None:
        """Have `callback` called for every change, of this replica and of others."""
        self._callbacks.append(callback)

    async def subscribe(self) -> None:
        """Subscribe to the changes of other replicas. After a reconnect everything is dropped: events may be missed."""
        await self._bus.subscribe(ProjectChanged, self._invalidate)

    async def publish(self, change: ProjectChanged, *cause: str) -> None:
        """Drop what a saved change concerns and publish it; equal causes are one event. Raises Unavailable.

        After Unavailable the caller repeats its command, which publishes again.
        """
        self._invalidate(change)
        message_id = ids.derive("evt", change.organisation, change.project_id or "", change.what, *cause)
        await self._bus.publish_event(change, message_id=message_id)

    def _invalidate(self, change: ProjectChanged | None) -> None:
        for callback in self._callbacks:
            callback(change)
