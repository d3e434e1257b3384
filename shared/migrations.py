"""Runs the migrations of a database: numbered, in order, each once, recorded in its collection `migrations`.

A service lists its migrations in `migrations/__init__.py`, one file each, named `m0001_<what it does>.py`. They run
before the service declares its indexes and takes requests. One replica runs them, the others wait for it; one that is
killed in the middle, or cancelled because it has lost the lock, runs again, so a migration must be safe to repeat.
Processes of the version before keep working on the database meanwhile, so a migration must leave it readable for them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from shared import ids, mongo
from shared.errors import Unavailable
from shared.mongo import Database

logger = logging.getLogger(__name__)

COLLECTION = "migrations"
_LOCK = "lock"
_LOCK_SECONDS = 30.0
"""A replica that runs migrations renews its lock three times in this time; one that does not was killed."""
_LOCK_LOST = "Another replica has taken the lock of the migrations."
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
    """Run the migrations of a database, then `steps` (create indexes, insert first documents), one after the other.

    Waits for the database as long as it takes. Raises what `migrate` raises but Unavailable.
    """
    owner = ids.mint("lock")  # one for all attempts: the next one need not wait for a lock that the last one left
    await mongo.retry_until_available(partial(migrate, database, migrations, owner))
    for step in steps:
        await mongo.retry_until_available(step)


async def migrate(database: Database, migrations: Sequence[Migration], owner: str | None = None) -> None:
    """Run the migrations that the database has not had, or wait until another replica has run them.

    `owner` is the id under which this process holds the lock; a new one if None. Raises ValueError if the numbers are
    not 1, 2, 3 …, Unavailable while the database is away or if another replica has taken the lock meanwhile, and what a
    migration raises: then neither it nor a later one is recorded.
    """
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError(f"the migrations of {database.name} must be numbered from 1, without gaps, in order")
    log = _Log(database, owner or ids.mint("lock"))
    while await log.pending(migrations):
        if await log.lock():
            await _run(database, log, migrations)
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _run(database: Database, log: "_Log", migrations: Sequence[Migration]) -> None:
    """Run the pending migrations while renewing the lock; cancel them and raise Unavailable once it is lost."""
    running = asyncio.create_task(_run_pending(database, log, migrations))
    renewing = asyncio.create_task(log.keep_locked())
    try:
        await asyncio.wait({running, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await renewing  # which raises if it ended by an error
            raise Unavailable(_LOCK_LOST)
        await running
    finally:
        running.cancel()
        renewing.cancel()
        await asyncio.gather(running, renewing, return_exceptions=True)
        try:
            await log.unlock()
        except Unavailable as error:  # it expires; and it must not hide what a migration raised
            logger.warning("the lock of the migrations is not released", extra={"error": error.message})


async def _run_pending(database: Database, log: "_Log", migrations: Sequence[Migration]) -> None:
    while True:
        if not await log.lock():
            raise Unavailable(_LOCK_LOST)
        pending = await log.pending(migrations)  # read under the lock: another replica may have held it and run some
        if not pending:
            return
        migration = pending[0]
        logger.info("migration %d of %s runs: %s", migration.number, database.name, migration.name)
        started = time.monotonic()
        await mongo.unavailable_when_away(migration.run)(database)
        seconds = time.monotonic() - started
        await log.record(migration, seconds)
        logger.info("migration %d of %s is done in %.1f s", migration.number, database.name, seconds)


@mongo.raises_unavailable
class _Log:
    """The collection `migrations`: which have run, and the lock of the replica that runs some now."""

    def __init__(self, database: Database, owner: str) -> None:
        self._collection = database[COLLECTION]
        self._owner = owner

    async def pending(self, migrations: Sequence[Migration]) -> list[Migration]:
        """Return the migrations that are not recorded, in order."""
        recorded = {document["_id"] async for document in self._collection.find({}, {"_id": 1})}
        return [migration for migration in migrations if migration.number not in recorded]

    async def record(self, migration: Migration, seconds: float) -> None:
        """Record that a migration has run."""
        document = {"name": migration.name, "done_at": datetime.now(UTC), "seconds": seconds}
        await self._collection.update_one({"_id": migration.number}, {"$set": document}, upsert=True)

    async def lock(self) -> bool:
        """Take or renew the lock; return whether this process has it. An expired lock may be taken from its owner.

        The server's clock decides what has expired, so the clocks of replicas may differ.
        """
        is_free = {"$or": [{"$eq": ["$owner", self._owner]}, {"$lt": ["$until", "$$NOW"]}]}  # no `until`: less than any
        until = {"$add": ["$$NOW", _LOCK_SECONDS * 1000]}
        taken = {"owner": {"$cond": [is_free, self._owner, "$owner"]}, "until": {"$cond": [is_free, until, "$until"]}}
        try:
            document = await self._collection.find_one_and_update(
                {"_id": _LOCK}, [{"$set": taken}], upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:  # another has just inserted it
            return False
        return bool(document["owner"] == self._owner)

    async def keep_locked(self) -> None:
        """Renew the lock, also after a moment in which the database was away; return once another replica has it."""
        while True:
            await asyncio.sleep(_LOCK_SECONDS / 3)
            try:
                if not await self.lock():
                    return
            except Unavailable as error:
                logger.warning("the lock of the migrations is not renewed for now", extra={"error": error.message})

    async def unlock(self) -> None:
        """Release the lock."""
        await self._collection.delete_one({"_id": _LOCK, "owner": self._owner})
