"""Fixtures of the tests of the logging service."""

import secrets
from collections.abc import AsyncIterator

import pytest_asyncio

from services.logging.deps import Deps
from services.logging.descendants import DescendantResolution
from services.logging.purge import Purge
from services.logging.read_barrier import ReadBarrier
from services.logging.store import (
    DeletionStore,
    LogDeletionStore,
    LogStore,
    SessionStore,
    UnresolvedLogStore,
    UnusedBlobStore,
)
from shared.bus import ConsumerProgress, StreamSpec, ensure_stream
from tests.integration.logging.stack import LoggingStack, TemporaryLoggingStack


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers() -> AsyncIterator[LoggingStack]:
    async with TemporaryLoggingStack() as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def unpurged(servers: LoggingStack) -> AsyncIterator[Deps]:
    """Yield the dependencies of handlers in a process whose purge does not run."""
    await servers.delete_streams()
    async with servers.bus("operator") as bus:
        await ensure_stream(bus, StreamSpec("EVENTS", ("events.>",)))
        with servers.database(f"t{secrets.token_hex(4)}") as database:
            stores = LogStore(database), SessionStore(database), DeletionStore(database)
            unused_blobs, log_deletions = UnusedBlobStore(database, 3600), LogDeletionStore(database)
            for store in (*stores, unused_blobs):
                await store.prepare()

            async def get_progress() -> ConsumerProgress:
                return ConsumerProgress(first_sequence=1, last_sequence=0, ack_floor=0)

            kept, sessions, deletions = stores
            barrier = ReadBarrier(get_progress, 2.0)
            purge = Purge(deletions, log_deletions, sessions, unused_blobs)
            unresolved = UnresolvedLogStore(database)
            descendants = DescendantResolution(unresolved, sessions, deletions, log_deletions, purge)
            yield Deps(bus, kept, log_deletions, unused_blobs, sessions, deletions, barrier, purge, descendants)
