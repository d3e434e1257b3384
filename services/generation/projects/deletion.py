"""Finishing what a deletion began: a hidden project loses its logs, its versions, its deployments, and is removed."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from services.generation.log_writer import LogWriter
from services.generation.projects.invalidation import Invalidation
from services.generation.store import Stores
from shared import telemetry
from shared.contracts.logs import ProjectDeleted
from shared.contracts.projects import ProjectChanged
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0
_ABANDONED = timedelta(minutes=1)
"""A project that has been hidden for so long is nobody's work any more: deleting takes less than its caller waits."""


class ProjectDeletion:
    """Every step may be repeated, by any number of replicas."""

    def __init__(self, stores: Stores, invalidation: Invalidation, log_writer: LogWriter) -> None:
        self._stores = stores
        self._invalidation = invalidation
        self._logbook = log_writer

    async def finish(self, organisation: str, project_id: str) -> None:
        """Remove all a hidden project has; itself last, for until then this is found again. Errors: Unavailable.

        Others are told after its versions are removed: one that was read before is forgotten, and none after.
        """
        now, trace = datetime.now(UTC), telemetry.outgoing().get("traceparent")
        await self._logbook.append_deletion(
            ProjectDeleted(organisation=organisation, project_id=project_id, at=now, trace=trace)
        )
        await self._stores.versions.remove(organisation, project_id)
        await self._stores.deployments.remove(organisation, project_id)
        await self._invalidation.publish(
            ProjectChanged(organisation=organisation, project_id=project_id, what="deleted")
        )
        await self._stores.projects.remove(organisation, project_id)

    async def run(self) -> None:
        """Finish for ever what was interrupted, at once and then every minute."""
        while True:
            try:
                for organisation, project_id in await self._stores.projects.hidden(datetime.now(UTC) - _ABANDONED):
                    await self.finish(organisation, project_id)
            except Unavailable as error:
                logger.warning("deleted projects are not removed for now", extra={"error": error.message})
            except Exception:
                logger.exception("deleted projects could not be removed")
            await asyncio.sleep(_LOOK_SECONDS)
