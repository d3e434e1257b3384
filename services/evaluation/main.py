"""The composition root of evaluation: its database, and the work queue `JOBS`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from nats.js.api import RetentionPolicy

from services.evaluation.settings import Settings
from shared import mongo
from shared.bus import (
    JOBS,
    JOBS_DUPLICATE_WINDOW_SECONDS,
    JOBS_SUBJECTS,
    Bus,
    StreamSpec,
    ensure_stream,
    stream_is_available,
)
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
async def _open(settings: Settings, bus: Bus, probes: Probes) -> AsyncIterator[None]:
    database = mongo.connect(settings, bus.service)
    probes["database"] = partial(mongo.ping, database)
    probes["jobs"] = partial(stream_is_available, bus, JOBS)
    try:
        await ensure_stream(bus, jobs(settings))
        yield
    finally:
        database.client.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    create_service(Settings()).run()


if __name__ == "__main__":
    main()
