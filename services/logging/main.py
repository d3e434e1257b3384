"""The logging service: stores accepted logs, answers questions about logs and sessions."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial

from services.logging.deps import Deps
from services.logging.handlers import intake, logs, sessions
from services.logging.purge import Purge
from services.logging.read_barrier import ReadBarrier
from services.logging.settings import LoggingSettings
from services.logging.store import DeletionStore, LogStore, SessionStore
from shared import blobs, mongo
from shared.bus import Bus, StreamSpec, consume, ensure_stream, progress, trim
from shared.errors import Unavailable
from shared.service import Probe, run

logger = logging.getLogger(__name__)

DEAD_DUPLICATE_WINDOW_SECONDS = 86_400.0
"""A job whose worker is killed between appending its dead letter and acknowledging it leaves one letter, if it comes
again within a day. Letters are few, so remembering their ids costs little."""
READER = "logging"
"""The durable consumer of `LOGS`: its acknowledgements say what is stored."""


def streams(settings: LoggingSettings) -> list[StreamSpec]:
    """The streams this service owns.

    `LOGS` is trimmed behind the reader instead of being a work queue: there the server deletes message by message and
    syncs each deletion, which costs as much as an append (measured: 900 appends and 900 deletions, 1,812 fsync).
    """
    replicas = settings.stream_replicas
    return [
        StreamSpec("LOGS", ("logs.>",), max_bytes=settings.logs_max_bytes, replicas=replicas),
        StreamSpec(
            "EVENTS",
            ("events.>",),
            max_age_days=settings.events_max_age_days,
            max_bytes=settings.events_max_bytes,
            replicas=replicas,
        ),
        StreamSpec(
            "DEAD",
            ("dead.>",),
            max_age_days=settings.dead_max_age_days,
            max_bytes=settings.dead_max_bytes,
            replicas=replicas,
            duplicate_window_seconds=DEAD_DUPLICATE_WINDOW_SECONDS,
        ),
        StreamSpec(
            blobs.STREAM,
            (blobs.SUBJECTS,),
            max_bytes=settings.blobs_max_bytes,
            replicas=replicas,
            newest_only=True,
            brief=True,
        ),
    ]


async def _trim_behind(bus: Bus, every_seconds: float) -> None:
    """Remove stored entries from the stream, now and then."""
    while True:
        await asyncio.sleep(every_seconds)
        try:
            reached = await progress(bus, "LOGS", READER)
            if reached.floor >= reached.first:
                await trim(bus, "LOGS", reached.floor)
        except Unavailable as error:
            logger.warning("stored entries stay in the stream for now", extra={"error": error.message})


@contextlib.asynccontextmanager
async def build(bus: Bus, settings: LoggingSettings) -> AsyncIterator[dict[str, Probe]]:
    """Streams first: logs are accepted while the database is still away."""
    for spec in streams(settings):
        await ensure_stream(bus, spec)
    database = mongo.connect(settings, "logging")
    read_barrier = ReadBarrier(partial(progress, bus, "LOGS", READER), settings.read_wait_seconds)
    kept = LogStore(database), SessionStore(database), DeletionStore(database)
    for store in kept:
        await mongo.retry_until_available(store.prepare)
    logs_, sessions_, deletions_ = kept
    deps = Deps(bus, logs_, sessions_, deletions_, read_barrier, Purge(deletions_, logs_, sessions_))
    reader = await consume(bus, "LOGS", READER, partial(intake.store_batch, deps=deps), wake=deps.read_barrier.wanted)
    trimming = asyncio.create_task(_trim_behind(bus, settings.logs_trim_seconds), name="trim LOGS")
    removing = asyncio.create_task(deps.purge.run(), name="remove logs of deleted projects")
    # A killed predecessor may have left accepted logs to us: who asks before they are stored is told 503, not less.
    await deps.read_barrier.wait_until_stored()
    for router in (logs.router, sessions.router):
        router.attach(bus, deps)

    async def on_bus() -> bool:
        return bus.is_online

    async def reading() -> bool:
        return not (reader.done() or removing.done())

    try:
        yield {"bus": on_bus, "database": partial(mongo.ping, database), "reader": reading}
    finally:
        trimming.cancel()
        removing.cancel()
        reader.cancel()
        database.client.close()


def main() -> None:
    """Run the service."""
    settings = LoggingSettings()
    run("logging", settings, partial(build, settings=settings))


if __name__ == "__main__":
    main()
