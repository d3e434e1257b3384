"""The composition root of logging: its streams, its database, the reader of `LOGS`, and the answers about logs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.logging.deps import Deps
from services.logging.handlers import intake, logs, sessions
from services.logging.migrations import MIGRATIONS
from services.logging.purge import Purge
from services.logging.read_barrier import ReadBarrier
from services.logging.settings import LoggingSettings
from services.logging.store import DeletionStore, LogStore, SessionStore
from shared import blobs, mongo
from shared.bus import Bus, StreamSpec, consume, ensure_stream, progress, trim
from shared.errors import Unavailable
from shared.migrations import prepare
from shared.service import Probes, Service

logger = logging.getLogger(__name__)

DEAD_DUPLICATE_WINDOW_SECONDS = 86_400.0
"""A job whose worker is killed between appending its dead letter and acknowledging it leaves one letter, if it comes
again within a day. Letters are few, so remembering their ids costs little."""
READER = "logging"
"""The durable consumer of `LOGS`: its acknowledgements say what is stored."""


def create_service(settings: LoggingSettings) -> Service:
    """Compose logging."""
    return Service("logging", settings, partial(_open, settings))


def streams(settings: LoggingSettings) -> list[StreamSpec]:
    """Return the streams this service owns.

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


@asynccontextmanager
async def _open(settings: LoggingSettings, bus: Bus) -> AsyncIterator[Probes]:
    """Streams first: logs are accepted while the database is still away."""
    for spec in streams(settings):
        await ensure_stream(bus, spec)
    database = mongo.connect(settings, bus.service)
    read_barrier = ReadBarrier(partial(progress, bus, "LOGS", READER), settings.read_wait_seconds)
    log_store, session_store, deletion_store = LogStore(database), SessionStore(database), DeletionStore(database)
    await prepare(database, MIGRATIONS, log_store.prepare, session_store.prepare, deletion_store.prepare)
    purge = Purge(deletion_store, log_store, session_store)
    deps = Deps(bus, log_store, session_store, deletion_store, read_barrier, purge)
    await consume(bus, "LOGS", READER, partial(intake.store_batch, deps=deps), wake=read_barrier.wanted)
    bus.supervise(_trim_behind(bus, settings.logs_trim_seconds), "trim LOGS")
    bus.supervise(purge.run(), "delete what deleted projects had")
    # A killed predecessor may have left accepted logs to us: who asks before they are stored is told 503, not less.
    await read_barrier.wait_until_stored()
    for router in (logs.router, sessions.router):
        router.attach(bus, deps)
    try:
        yield {"database": partial(mongo.ping, database)}
    finally:
        database.client.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    create_service(LoggingSettings()).run()


if __name__ == "__main__":
    main()
