"""Deletes everything of a project that is marked deleted: logs, versions, deployments, and then the project itself."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from services.generation.log_writer import LogWriter
from services.generation.projects.invalidation import Invalidation
from services.generation.store import Stores
from shared import telemetry
from shared.contracts.generation.projects import ProjectChanged
from shared.contracts.logs import ProjectDeleted
from shared.contracts.principal import Actor
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

_SWEEP_INTERVAL_SECONDS = 60.0
_ABANDONED_AFTER = timedelta(minutes=1)
"""Age of a deletion that its caller no longer works on: deleting takes less than a caller waits."""


class ProjectDeletion:
    """Deletes projects; every step may be repeated, by any number of replicas."""

    def __init__(self, stores: Stores, invalidation: Invalidation, log_writer: LogWriter) -> None:
        self._stores = stores
        self._invalidation = invalidation
        self._log_writer = log_writer

    async def purge(self, organisation: str, project_id: str, actor: Actor | None = None) -> None:
        """Delete everything of a project that is marked deleted. Raises Unavailable; may be called again.

        The project's own document goes last: as long as it is there, `run` finds it. `ProjectChanged` is published
        after the versions are deleted: replicas then drop the versions they have cached and can read none again.
        """
        now, trace = datetime.now(UTC), telemetry.trace_headers().get("traceparent")
        blobs = sorted(await self._stores.versions.list_project_blobs(organisation, project_id))
        deleted = ProjectDeleted(organisation=organisation, project_id=project_id, at=now, blobs=blobs, trace=trace)
        await self._log_writer.append_deletion(deleted)
        await self._stores.versions.delete_by_project(organisation, project_id)
        await self._stores.deployments.delete_by_project(organisation, project_id)
        await self._invalidation.publish(
            ProjectChanged(organisation=organisation, project_id=project_id, what="deleted", actor=actor)
        )
        await self._stores.projects.delete(organisation, project_id)

    async def run(self) -> None:
        """Purge the projects whose deletion was interrupted: at once and then every minute, until cancelled."""
        while True:
            try:
                before = datetime.now(UTC) - _ABANDONED_AFTER
                for organisation, project_id in await self._stores.projects.list_marked_deleted(before):
                    await self.purge(organisation, project_id)
            except Unavailable as error:
                logger.warning("deleted projects are not removed for now", extra={"error": error.message})
            except Exception:
                logger.exception("deleted projects could not be removed")
            await asyncio.sleep(_SWEEP_INTERVAL_SECONDS)
