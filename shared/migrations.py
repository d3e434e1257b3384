"""Changes of a database that run once: numbered, in order, recorded in its collection `migrations`.

A service lists its migrations in `migrations/__init__.py`, one file each, named `m0001_<what it does>.py`. They run
before the service declares its indexes and takes requests. One replica runs them, the others wait for it; one that is
killed in the middle runs again, so a migration must be safe to repeat. Processes of the version before keep working on
the database meanwhile, so a migration must leave it readable for them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from pymongo.errors import DuplicateKeyError

from shared import ids, mongo
from shared.mongo import Database

logger = logging.getLogger(__name__)

COLLECTION = "migrations"
_LOCK = "lock"
_LOCK_SECONDS = 30.0
"""A replica that runs migrations renews its lock three times in this time; one that does not was killed."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Migration:
    """One change of a database."""

    number: int
    """From 1, without gaps; never given twice."""
    name: str
    """What it does, as in the name of its file."""
    run: Callable[[Database], Awaitable[None]]


async def prepare(database: Database, migrations: Sequence[Migration], *steps: Callable[[], Awaitable[None]]) -> None:
    """Run the migrations of a database, then `steps` (declare indexes, insert first documents), one after the other.

    Waits for the database as long as it takes.
    """
    await mongo.retry_until_available(partial(migrate, database, migrations))
    for step in steps:
        await mongo.retry_until_available(step)


async def migrate(database: Database, migrations: Sequence[Migration]) -> None:
    """Run the migrations that the database has not had, or wait until another replica has run them.

    Raises ValueError if the numbers are not 1, 2, 3 …, Unavailable while the database is away, and what a migration
    raises: then neither it nor a later one is recorded.
    """
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError(f"the migrations of {database.name} must be numbered from 1, without gaps, in order")
    log = _Log(database)
    while pending := await log.pending(migrations):
        if await log.lock():
            await _run(database, log, pending)
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _run(database: Database, log: "_Log", pending: Sequence[Migration]) -> None:
    renewing = asyncio.create_task(log.keep_locked())
    try:
        for migration in await log.pending(pending):  # the lock may have come from one that had finished some
            logger.info("migration %d of %s runs: %s", migration.number, database.name, migration.name)
            started = time.monotonic()
            await mongo.unavailable_when_away(migration.run)(database)
            seconds = time.monotonic() - started
            await log.record(migration, seconds)
            logger.info("migration %d of %s is done in %.1f s", migration.number, database.name, seconds)
    finally:
        renewing.cancel()
        await asyncio.wait({renewing})
        await log.unlock()


@mongo.store
class _Log:
    """Which migrations a database has had, and which replica runs some now."""

    def __init__(self, database: Database) -> None:
        self._collection = database[COLLECTION]
        self._owner = ids.mint("lock")

    async def pending(self, migrations: Sequence[Migration]) -> list[Migration]:
        """Return those that are not recorded."""
        recorded = {document["_id"] async for document in self._collection.find({}, {"_id": 1})}
        return [migration for migration in migrations if migration.number not in recorded]

    async def record(self, migration: Migration, seconds: float) -> None:
        """Note that a migration is done."""
        document = {"name": migration.name, "done_at": datetime.now(UTC), "seconds": seconds}
        await self._collection.update_one({"_id": migration.number}, {"$set": document}, upsert=True)

    async def lock(self) -> bool:
        """Return whether this process may run migrations now: nobody does, or who did has not renewed the lock."""
        now = datetime.now(UTC)
        free = {"_id": _LOCK, "$or": [{"owner": self._owner}, {"until": {"$lt": now}}]}
        taken = {"owner": self._owner, "until": now + timedelta(seconds=_LOCK_SECONDS)}
        try:
            await self._collection.update_one(free, {"$set": taken}, upsert=True)
        except DuplicateKeyError:  # it is there, and another's
            return False
        return True

    async def keep_locked(self) -> None:
        """Renew the lock until cancelled."""
        while True:
            await asyncio.sleep(_LOCK_SECONDS / 3)
            await self.lock()

    async def unlock(self) -> None:
        """Let others run migrations."""
        await self._collection.delete_one({"_id": _LOCK, "owner": self._owner})
