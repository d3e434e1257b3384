"""The composition root of logging: its streams, its database, the reader of `LOGS`, and the answers about logs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

from services.logging.deps import Deps
from services.logging.descendants import DescendantResolution
from services.logging.handlers import intake, logs, sessions
from services.logging.migrations import MIGRATIONS
from services.logging.purge import BlobRemoval, Purge
from services.logging.read_barrier import ReadBarrier
from services.logging.settings import LoggingSettings
from services.logging.store import (
    DeletionStore,
    LogDeletionStore,
    LogStore,
    SessionStore,
    UnresolvedLogStore,
    UnusedBlobStore,
)
from shared import blobs, mongo
from shared.bus import (
    Bus,
    StreamSpec,
    consume,
    ensure_stream,
    get_consumer_progress,
    purge_through,
    stream_is_available,
)
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
            last_per_subject_only=True,
            allow_message_ttl=True,
        ),
    ]


async def _all_are_available(bus: Bus, names: Iterable[str]) -> bool:
    return all(await asyncio.gather(*(stream_is_available(bus, name) for name in names)))


async def _trim_behind(bus: Bus, every_seconds: float) -> None:
    """Remove stored entries from the stream, now and then."""
    while True:
        await asyncio.sleep(every_seconds)
        try:
            reached = await get_consumer_progress(bus, "LOGS", READER)
            if reached.ack_floor >= reached.first_sequence:
                await purge_through(bus, "LOGS", reached.ack_floor)
        except Unavailable as error:
            logger.warning("stored entries stay in the stream for now", extra={"error": error.message})


@asynccontextmanager
async def _open(settings: LoggingSettings, bus: Bus, probes: Probes) -> AsyncIterator[None]:
    """Streams first: logs are accepted while the database is still away."""
    database = mongo.connect(settings, bus.service)
    specs = streams(settings)
    probes["database"] = partial(mongo.ping, database)
    probes["streams"] = partial(_all_are_available, bus, [spec.name for spec in specs])
    for spec in specs:
        await ensure_stream(bus, spec)
    read_barrier = ReadBarrier(partial(get_consumer_progress, bus, "LOGS", READER), settings.read_wait_seconds)
    log_store, session_store = LogStore(database, settings.search_seconds), SessionStore(database)
    deletion_store, log_deletions = DeletionStore(database), LogDeletionStore(database)
    unused_blobs, unresolved = UnusedBlobStore(database, settings.blobs_unused_seconds), UnresolvedLogStore(database)
    await prepare(
        database,
        MIGRATIONS,
        *(store.prepare for store in (log_store, session_store, deletion_store, unused_blobs, unresolved)),
    )
    purge = Purge(deletion_store, log_deletions, session_store, unused_blobs)
    removal = BlobRemoval(bus, unused_blobs, log_deletions, read_barrier, settings.blobs_unused_seconds)
    descendants = DescendantResolution(unresolved, session_store, deletion_store, log_deletions, purge)
    deps = Deps(
        bus, log_store, log_deletions, unused_blobs, session_store, deletion_store, read_barrier, purge, descendants
    )
    await consume(bus, "LOGS", READER, partial(intake.store_batch, deps=deps), wake=read_barrier.wanted)
    bus.supervise(_trim_behind(bus, settings.logs_trim_seconds), "trim LOGS")
    bus.supervise(purge.run(), "delete what deleted projects had")
    bus.supervise(removal.run(), "remove unused images")
    bus.supervise(descendants.run(), "resolve sessions of descendants")
    for router in (logs.router, sessions.router):
        router.attach(bus, deps)
    try:
        yield
    finally:
        database.client.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    create_service(LoggingSettings()).run()


if __name__ == "__main__":
    main()
