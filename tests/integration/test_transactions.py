"""Transactions on a real mongod: all or nothing, repeated after a conflict, aborted when nothing changed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from pymongo.errors import DuplicateKeyError

from shared.errors import Unavailable
from shared.mongo import Database, Session, connect, initiate_replica_set, transaction
from shared.settings import DatabaseSettings
from tests.integration.servers import Mongo, running


@pytest.fixture(scope="module")
async def mongo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mongo]:
    server = Mongo(tmp_path_factory.mktemp("transactions"))
    with running(server):
        await initiate_replica_set(f"mongodb://127.0.0.1:{server.port}", f"127.0.0.1:{server.port}")
        yield server


@pytest.fixture
async def database(mongo: Mongo) -> AsyncIterator[Database]:
    database = connect(DatabaseSettings(mongo_url=mongo.url), "transactions")
    await database["counters"].delete_many({})
    yield database
    database.client.close()


async def count(database: Database) -> int:
    return int(await database["counters"].count_documents({}))


async def test_what_is_raised_saves_nothing(database: Database) -> None:
    async def work(session: Session) -> bool:
        await database["counters"].insert_one({"_id": 1}, session=session)
        await database["others"].insert_one({"_id": 1}, session=session)  # makes the collection
        raise KeyError("a rule")

    with pytest.raises(KeyError):
        await transaction(database, work)
    assert await count(database) == 0
    assert "others" not in await database.list_collection_names()


@pytest.mark.parametrize("result", [None, False])
async def test_no_change_saves_nothing(database: Database, result: bool | None) -> None:
    async def work(session: Session) -> bool | None:
        await database["counters"].insert_one({"_id": 1}, session=session)
        return result

    assert await transaction(database, work) is result
    assert await count(database) == 0


@pytest.mark.parametrize("result", [True, 0, "", []])
async def test_any_other_result_is_a_change(database: Database, result: object) -> None:
    async def work(session: Session) -> object:
        await database["counters"].insert_one({"_id": 1}, session=session)
        return result

    assert await transaction(database, work) == result
    assert await count(database) == 1


async def test_a_refusal_by_a_unique_index_may_be_caught_and_told_as_no_change(database: Database) -> None:
    await database["counters"].insert_one({"_id": 1})

    async def work(session: Session) -> bool:
        await database["counters"].insert_one({"_id": 2}, session=session)
        try:
            await database["counters"].insert_one({"_id": 1}, session=session)
        except DuplicateKeyError:
            return False
        return True

    assert await transaction(database, work) is False
    assert await count(database) == 1


async def test_transactions_that_write_the_same_at_once_all_succeed(database: Database) -> None:
    await database["counters"].insert_one({"_id": 1, "value": 0})

    async def work(session: Session) -> int:
        counter = await database["counters"].find_one({"_id": 1}, session=session)
        assert counter is not None
        await asyncio.sleep(0)
        change = {"$set": {"value": counter["value"] + 1}}
        await database["counters"].update_one({"_id": 1}, change, session=session)
        return int(counter["value"]) + 1

    results = await asyncio.gather(*(transaction(database, work) for _ in range(12)))
    assert sorted(results) == list(range(1, 13))


async def test_one_that_others_never_let_through_is_unavailable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.mongo._TRANSACTION_SECONDS", 0.3)
    await database["counters"].insert_one({"_id": 1, "value": 0})
    held = asyncio.Event()
    release = asyncio.Event()

    async def hold(session: Session) -> bool:
        await database["counters"].update_one({"_id": 1}, {"$inc": {"value": 1}}, session=session)
        held.set()
        await release.wait()
        return True

    async def write(session: Session) -> bool:
        await database["counters"].update_one({"_id": 1}, {"$inc": {"value": 100}}, session=session)
        return True

    async def run(work: Callable[[Session], Awaitable[bool]]) -> bool:
        return await transaction(database, work)

    holding = asyncio.create_task(run(hold))
    await held.wait()
    with pytest.raises(Unavailable, match="Others are changing the same"):
        await run(write)
    release.set()
    assert await holding
    assert await database["counters"].find_one({"_id": 1}) == {"_id": 1, "value": 1}


async def test_a_database_that_dies_during_one_saves_all_of_it_or_nothing(mongo: Mongo, database: Database) -> None:
    pairs, sent = ("counters", "mirror"), 0
    stopped = asyncio.Event()

    async def change() -> None:
        nonlocal sent
        while not stopped.is_set():
            sent += 1
            number = sent

            async def work(session: Session, number: int = number) -> bool:
                for name in pairs:
                    await database[name].insert_one({"_id": number}, session=session)
                return True

            try:
                await transaction(database, work)
            except Unavailable:
                return

    for name in pairs:
        await database[name].delete_many({})
    changing = [asyncio.create_task(change()) for _ in range(4)]
    await asyncio.sleep(0.3)
    mongo.kill()
    await asyncio.gather(*changing)
    stopped.set()
    mongo.start()

    async def found(name: str) -> set[int]:
        return {document["_id"] async for document in database[name].find({})}

    async with asyncio.timeout(20):
        while not (await database.command("hello"))["isWritablePrimary"]:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.1)
    assert await found("counters") == await found("mirror") != set()
