"""The composition root of evaluation: its database, and the work queue `JOBS`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy

from services.evaluation.settings import Settings
from shared import mongo
from shared.bus import JOBS, JOBS_DUPLICATE_WINDOW_SECONDS, JOBS_SUBJECTS, Bus, StreamSpec, ensure_stream
from shared.service import Probes, Service


def create_service(settings: Settings) -> Service:
    """Compose evaluation."""
    return Service("evaluation", settings, partial(_open, settings))


def jobs(settings: Settings) -> StreamSpec:
    """Return the work queue, which deletes a job when it is acknowledged."""
    return StreamSpec(
        name=JOBS,
        subjects=(JOBS_SUBJECTS,),
        retention=RetentionPolicy.WORK_QUEUE,
        duplicate_window_seconds=JOBS_DUPLICATE_WINDOW_SECONDS,
        max_age_days=settings.jobs_max_age_days,
        max_bytes=settings.jobs_max_bytes,
        replicas=settings.jobs_replicas,
    )


@asynccontextmanager
async def _open(settings: Settings, bus: Bus) -> AsyncIterator[Probes]:
    database = mongo.connect(settings, bus.service)
    await ensure_stream(bus, jobs(settings))

    async def jobs_are_kept() -> bool:
        try:
            await bus.client.jetstream().stream_info(JOBS)
        except NatsError:
            return False
        return True

    try:
        yield {"database": partial(mongo.ping, database), "jobs": jobs_are_kept}
    finally:
        database.client.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    create_service(Settings()).run()


if __name__ == "__main__":
    main()
