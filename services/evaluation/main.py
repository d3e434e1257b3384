"""The evaluation process: its database, and the stream its work comes from."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy

from services.evaluation.settings import Settings
from shared import mongo
from shared.bus import JOBS, JOBS_DUPLICATE_WINDOW_SECONDS, JOBS_SUBJECTS, Bus, StreamSpec, ensure_stream
from shared.service import Probe, run


def jobs(settings: Settings) -> StreamSpec:
    """The work queue: a job is gone when it was done."""
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
async def build(settings: Settings, bus: Bus) -> AsyncIterator[dict[str, Probe]]:
    """Open what evaluation needs."""
    database = mongo.connect(settings, bus.service)
    await ensure_stream(bus, jobs(settings))

    async def bus_answers() -> bool:
        return bus.is_online

    async def jobs_are_kept() -> bool:
        try:
            await bus.client.jetstream().stream_info(JOBS)
        except NatsError:
            return False
        return True

    try:
        yield {"bus": bus_answers, "database": partial(mongo.ping, database), "jobs": jobs_are_kept}
    finally:
        database.client.close()


def main() -> None:
    """Run until SIGTERM."""
    settings = Settings()
    run("evaluation", settings, partial(build, settings))


if __name__ == "__main__":
    main()
