"""Migrations on a real MongoDB: once per database, whoever starts, and again after a kill."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from services.generation.migrations import MIGRATIONS
from services.generation.store import create_stores
from shared.errors import Unavailable
from shared.migrations import COLLECTION, Migration, _Log, migrate, prepare
from shared.mongo import Database, connect, initiate_replica_set
from shared.settings import DatabaseSettings
from tests.integration.servers import Mongo, running


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongo]:
    server = Mongo(tmp_path_factory.mktemp("mongo"))
    with running(server):
        yield server


@pytest.fixture
async def database(mongod: Mongo) -> AsyncIterator[Database]:
    """A new database."""
    host = f"127.0.0.1:{mongod.port}"
    await initiate_replica_set(f"mongodb://{host}", host)
    settings = DatabaseSettings(mongo_url=mongod.url, mongo_prefix=f"new_{ObjectId()}")
    database = connect(settings, "generation")
    yield database
    database.client.close()


class Counting:
    """Migrations that note that they ran."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ran: list[int] = []
        self.error = error

    def migration(self, number: int) -> Migration:
        """Return the migration of this number; the second raises `error`, if there is one."""

        async def run(_: Database) -> None:
            self.ran.append(number)
            await asyncio.sleep(0.05)
            if number == 2 and self.error:
                raise self.error

        return Migration(number, f"step {number}", run)


async def recorded(database: Database) -> list[object]:
    return sorted([document["_id"] async for document in database[COLLECTION].find()], key=str)


async def test_each_runs_once_in_order_and_only_new_ones_later(database: Database) -> None:
    steps = Counting()
    await migrate(database, [steps.migration(1), steps.migration(2)])
    await migrate(database, [steps.migration(1), steps.migration(2), steps.migration(3)])
    assert steps.ran == [1, 2, 3]
    assert await recorded(database) == [1, 2, 3]
    first = await database[COLLECTION].find_one({"_id": 1})
    assert first is not None
    assert first["name"] == "step 1"


async def test_of_replicas_that_start_at_once_one_runs_them_and_all_wait(database: Database) -> None:
    steps = [Counting() for _ in range(5)]
    await asyncio.gather(*(migrate(database, [one.migration(1), one.migration(2)]) for one in steps))
    assert sorted(number for one in steps for number in one.ran) == [1, 2]
    assert await recorded(database) == [1, 2]


async def test_one_that_fails_is_not_recorded_and_runs_again(database: Database) -> None:
    failing = Counting(ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        await migrate(database, [failing.migration(number) for number in (1, 2, 3)])
    assert failing.ran == [1, 2]
    assert await recorded(database) == [1]
    mended = Counting()
    await migrate(database, [mended.migration(number) for number in (1, 2, 3)])
    assert mended.ran == [2, 3]


async def test_what_a_killed_process_had_begun_runs_again_when_its_lock_has_expired(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.migrations._LOCK_SECONDS", 0.6)
    killed = asyncio.create_task(migrate(database, [Migration(1, "step 1", lambda _: asyncio.sleep(60))]))
    await asyncio.sleep(0.2)
    waiting = Counting()
    heir = asyncio.create_task(migrate(database, [waiting.migration(1)]))
    await asyncio.sleep(1)
    assert waiting.ran == [], "the lock is renewed while the migration runs"
    monkeypatch.setattr("shared.migrations._Log.unlock", lambda _: asyncio.sleep(0))
    killed.cancel()
    async with asyncio.timeout(10):
        await heir
    assert waiting.ran == [1]


async def test_the_lock_is_renewed_after_a_moment_in_which_the_database_was_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.migrations._LOCK_SECONDS", 0.6)
    lock, calls = _Log.lock, list[_Log]()

    async def fail_once(log: _Log) -> bool:
        calls.append(log)
        if log is calls[0] and calls.count(log) == 3:  # its first renewal while the migration runs
            raise Unavailable("away")
        return await lock(log)

    monkeypatch.setattr(_Log, "lock", fail_once)
    running = asyncio.create_task(migrate(database, [Migration(1, "step 1", lambda _: asyncio.sleep(1.5))]))
    await asyncio.sleep(0.3)
    waiting = Counting()
    await migrate(database, [waiting.migration(1)])
    await running
    assert calls.count(calls[0]) > 3
    assert waiting.ran == [], "nobody else has run it"


async def give_lock_to_another(database: Database) -> None:
    until = datetime.now(UTC) + timedelta(minutes=5)
    await database[COLLECTION].update_one({"_id": "lock"}, {"$set": {"owner": "another", "until": until}})


async def test_a_migration_is_cancelled_when_the_lock_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.migrations._LOCK_SECONDS", 0.6)
    begun, cancelled, later = asyncio.Event(), asyncio.Event(), Counting()

    async def run(_: Database) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    loser = asyncio.create_task(migrate(database, [Migration(1, "step 1", run), later.migration(2)]))
    async with asyncio.timeout(10):
        await begun.wait()
    await give_lock_to_another(database)
    with pytest.raises(Unavailable, match="Another replica"):
        async with asyncio.timeout(10):
            await loser
    assert cancelled.is_set()
    assert later.ran == []
    lock = await database[COLLECTION].find_one()
    assert lock is not None
    assert lock["owner"] == "another", "its lock is left to it"
    assert await recorded(database) == ["lock"]


async def test_the_next_migration_does_not_run_without_the_lock_and_runs_when_it_is_free_again(
    database: Database,
) -> None:
    later = Counting()
    preparing = asyncio.create_task(
        prepare(database, [Migration(1, "step 1", give_lock_to_another), later.migration(2)])
    )
    await asyncio.sleep(1.5)
    assert later.ran == []
    await database[COLLECTION].delete_one({"_id": "lock"})
    async with asyncio.timeout(10):
        await preparing
    assert later.ran == [2]
    assert await recorded(database) == [1, 2]


async def test_what_another_replica_has_run_meanwhile_does_not_run_again(database: Database) -> None:
    async def run_late(late: Database) -> None:
        await late[COLLECTION].delete_one({"_id": "lock"})
        await late[COLLECTION].insert_one({"_id": 2, "name": "step 2"})

    later = Counting()
    await migrate(database, [Migration(1, "step 1", run_late), later.migration(2), later.migration(3)])
    assert later.ran == [3]


async def test_a_replica_whose_clock_is_fast_does_not_take_the_lock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fast(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1)

    assert await _Log(database, "first").lock()
    monkeypatch.setattr("shared.migrations.datetime", Fast)
    assert not await _Log(database, "second").lock()
    assert await _Log(database, "first").lock(), "renewed"
    monkeypatch.undo()
    await database[COLLECTION].update_one({}, [{"$set": {"until": {"$subtract": ["$$NOW", 1]}}}])
    assert await _Log(database, "second").lock(), "expired"
    assert not await _Log(database, "first").lock()


async def test_a_start_after_the_database_was_away_does_not_wait_for_its_own_lock(
    database: Database, mongod: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    starting: list[asyncio.Task[None]] = []
    ran: list[int] = []

    async def start_again() -> None:
        async with asyncio.timeout(20):
            while "the lock of the migrations is not released" not in caplog.messages:  # noqa: ASYNC110 - a log line
                await asyncio.sleep(0.05)
        await asyncio.to_thread(mongod.start)

    async def run(away: Database) -> None:
        ran.append(1)
        if len(ran) == 1:
            mongod.kill()
            starting.append(asyncio.create_task(start_again()))
        await away["things"].find_one()

    with caplog.at_level(logging.WARNING, "shared.migrations"):
        async with asyncio.timeout(25):  # the lock that it could not release expires after 30 s
            await prepare(database, [Migration(1, "step 1", run)])
    await starting[0]
    assert ran == [1, 1]
    assert await recorded(database) == [1]


async def test_a_gap_in_the_numbers_is_refused_before_anything_runs(database: Database) -> None:
    steps = Counting()
    for numbers in ((2,), (1, 3), (2, 1)):
        with pytest.raises(ValueError, match="without gaps"):
            await migrate(database, [steps.migration(number) for number in numbers])
    assert steps.ran == []


async def test_a_database_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.mongo.SELECTION_MILLISECONDS", 200)
    away = connect(DatabaseSettings(mongo_url="mongodb://127.0.0.1:1"), "generation")
    with pytest.raises(Unavailable):
        await migrate(away, MIGRATIONS)
    away.client.close()


async def test_generation_drops_the_indexes_that_others_have_taken_the_place_of(database: Database) -> None:
    await database["projects"].create_index([("organisation", 1), ("name", 1)], unique=True)
    places = [("organisation", 1), ("project_id", 1), ("environment_id", 1)]
    await database["deployments"].create_index(places, unique=True)
    await migrate(database, MIGRATIONS)
    await create_stores(database).prepare()
    names = {
        name for collection in ("projects", "deployments") for name in await database[collection].index_information()
    }
    assert not names & {"organisation_1_name_1", "organisation_1_project_id_1_environment_id_1"}
    assert {"names", "places"} <= names
