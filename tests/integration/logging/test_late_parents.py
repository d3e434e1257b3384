"""Logs whose ancestors come later, many of them: their sessions are resolved beside storing."""

import asyncio
import secrets
from contextlib import suppress
from typing import Any, cast

import pytest

from services.logging import descendants
from services.logging.deps import Deps
from services.logging.store import UnresolvedLogStore
from shared.appender import Appender
from shared.bus import Bus, get_consumer_progress
from shared.contracts.logs import LOGS_SUBJECT, GetLog, GetSession, LogDeleted, LogRecord, SearchLogs
from shared.mongo import Database
from tests.integration.logging.stack import LoggingStack, store_message
from tests.integration.servers import until_ready
from tests.principals import member
from tests.unit.logging.builders import START, log

ORGANISATION = "tm_1"
SESSION = "sesh_1"
PER_MESSAGE = 1000


def chain(length: int, root: str = "data_0") -> list[LogRecord]:
    """Return logs of which each is the child of the one before, the first that of `root`."""
    parents = [root, *(f"{root}_{number}" for number in range(1, length))]
    return [
        log(f"{root}_{number}", parent_id=parent, seconds=number, project_id=f"pr_{number % 3}")
        for number, parent in enumerate(parents, 1)
    ]


def root(log_id: str = "data_0") -> LogRecord:
    return log(log_id, session_id=SESSION)


async def store(deps: Deps, first_sequence: int, logs: list[LogRecord]) -> None:
    """Store logs in messages of some size."""
    for number, start in enumerate(range(0, len(logs), PER_MESSAGE)):
        await store_message(deps, first_sequence + number, *logs[start : start + PER_MESSAGE])


async def in_session(database: Database) -> int:
    return await database["logs"].count_documents({"organisation": ORGANISATION, "session_id": SESSION})


async def is_finished(database: Database) -> bool:
    """Return whether nothing is left to resolve."""
    unresolved = await database["logs"].count_documents({"waiting": True})
    return not unresolved and not await database["pending_ancestors"].count_documents({})


async def count_operations(database: Database) -> int:
    """Return how many operations mongod has done for clients."""
    counters = (await database.client.admin.command("serverStatus"))["opcounters"]
    return sum(counters[kind] for kind in ("query", "insert", "update", "delete", "getmore"))


async def test_a_deep_chain_holds_up_nobody_and_a_kill_is_survived(servers: LoggingStack) -> None:
    await servers.delete_streams()
    prefix, late = f"t{secrets.token_hex(4)}", chain(12_000)
    async with servers.bus() as bus, servers.bus("logging") as reader:
        with servers.database(prefix) as database:
            server, appender = servers.logging(prefix), Appender(bus, LOGS_SUBJECT)
            server.start()
            await until_ready(bus, "logging")

            async def accept(*records: LogRecord) -> None:
                await appender.append([record.model_dump_json().encode() for record in records])

            for start in range(0, len(late), PER_MESSAGE):
                await accept(*late[start : start + PER_MESSAGE])
            async with asyncio.timeout(60):
                while (at := await get_consumer_progress(reader, "LOGS", "logging")).ack_floor < at.last_sequence:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await accept(root())
            await accept(log("data_other", organisation="tm_2", project_id="pr_other"))
            # Not with the patience of the test's bus: a read that has to wait for long is 503.
            await Bus.request(bus, GetLog(principal=member("tm_2"), id="data_other"))
            found = await Bus.request(bus, SearchLogs(principal=member("tm_2"), project_id="pr_other"))
            assert found.total == 1
            first = await Bus.request(bus, GetLog(principal=member(ORGANISATION), id=late[15].id))
            assert first.session_id == SESSION
            assert await in_session(database) < len(late), "others did not wait for all of them"

            for share in (0.1, 0.3):
                async with asyncio.timeout(60):
                    while await in_session(database) < share * len(late):  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                server.kill()
                assert not await is_finished(database)
                server.start()
            await until_ready(bus, "logging")
            async with asyncio.timeout(60):
                while not await is_finished(database):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert await in_session(database) == len(late) + 1
            session = await bus.request(GetSession(principal=member(ORGANISATION), id=SESSION))
            assert session.datapoints_count == len(late) + 1
            assert sorted(session.project_ids) == ["pr_0", "pr_1", "pr_2"]
    servers.stop_logging()


@pytest.mark.parametrize("max_in_memory", [descendants.MAX_IN_MEMORY, 1], ids=["in memory", "too many for that"])
async def test_storing_does_not_depend_on_the_length_and_the_rest_is_in_proportion_to_it(
    unpurged: Deps, servers: LoggingStack, monkeypatch: pytest.MonkeyPatch, max_in_memory: int
) -> None:
    monkeypatch.setattr(descendants, "MAX_IN_MEMORY", max_in_memory)
    storing, resolving = [], []
    with servers.database("any") as database:
        for number, length in enumerate((1500, 6000)):
            log_id = f"data_{number}"
            await store(unpurged, 100 * number + 1, chain(length, log_id))
            before = await count_operations(database)
            await store_message(unpurged, 100 * number + 50, root(log_id))
            stored = await count_operations(database)
            await unpurged.descendants.resolve_pending()
            storing.append(stored - before)
            resolving.append((await count_operations(database)) - stored)
    assert storing[1] < storing[0] + 10
    assert resolving[1] < 5 * resolving[0]


def database_of(deps: Deps) -> Database:
    """Return the database of the dependencies."""
    return cast("Database", deps.logs._logs.database)


def families() -> dict[str, list[LogRecord]]:
    """Return descendants of one log in some shapes: wide, wide and deep, and small."""
    wide = [log(f"data_{number}", parent_id="data_0") for number in range(1, 3501)]
    return {
        "wide": wide,
        "wide below a chain": [
            *chain(40),
            *(log(f"data_{number}", parent_id="data_0_40") for number in range(1, 2501)),
            *chain(30, "data_2000"),
        ],
        "many chains": [one for number in range(1, 61) for one in (wide[number - 1], *chain(60, f"data_{number}"))],
    }


@pytest.mark.parametrize("max_in_memory", [descendants.MAX_IN_MEMORY, 1], ids=["in memory", "too many for that"])
@pytest.mark.parametrize("shape", families())
async def test_all_descendants_join_whatever_the_shape(
    unpurged: Deps, monkeypatch: pytest.MonkeyPatch, shape: str, max_in_memory: int
) -> None:
    monkeypatch.setattr(descendants, "MAX_IN_MEMORY", max_in_memory)
    logs = families()[shape]
    await store(unpurged, 1, logs)
    foreign = [log(one.id, parent_id=one.parent_id, organisation="tm_2") for one in logs[:10]]
    await store_message(unpurged, 50, *foreign, log("data_alone", parent_id="data_none"))
    await store_message(unpurged, 51, root())
    await unpurged.descendants.resolve_pending()
    database = database_of(unpurged)
    assert await in_session(database) == len(logs) + 1
    assert await database["logs"].count_documents({"waiting": True}) == len(foreign) + 1
    assert await database["pending_ancestors"].count_documents({}) == 0


@pytest.mark.parametrize("length", [3, 2500])
@pytest.mark.parametrize("step", ["insert_ancestors", "update_assignments", "list_children", "delete_ancestors"])
@pytest.mark.parametrize("interruption", ["before it", "after it", "none"])
async def test_what_an_interrupted_process_began_is_finished(
    unpurged: Deps, monkeypatch: pytest.MonkeyPatch, step: str, length: int, interruption: str
) -> None:
    """Another replica stores a child of the last log found at the same moment; its parent is not resolved then."""
    await store(unpurged, 1, chain(length))
    child, real = log("data_child", parent_id=f"data_0_{min(length, 3)}"), getattr(UnresolvedLogStore, step)
    interrupted = False

    async def interrupt(*arguments: Any) -> Any:
        nonlocal interrupted
        if interrupted or (step == "list_children" and not await database["pending_ancestors"].count_documents({})):
            return await real(*arguments)
        interrupted = True
        if step in ("insert_ancestors", "update_assignments"):
            await store_message(unpurged, 60, child)
        result = None if interruption == "before it" else await real(*arguments)
        if interruption != "none":
            raise ConnectionError
        return result

    database = database_of(unpurged)
    monkeypatch.setattr(UnresolvedLogStore, step, interrupt)
    with suppress(ConnectionError):
        await store_message(unpurged, 50, root())
    assert interrupted
    await unpurged.descendants.resolve_pending()
    if step not in ("insert_ancestors", "update_assignments"):
        await store_message(unpurged, 60, child)
    await store_message(unpurged, 50, root())
    await unpurged.descendants.resolve_pending()
    assert await is_finished(database)
    assert await in_session(database) == length + 2


async def test_two_replicas_that_store_a_family_at_once_leave_nobody_out(servers: LoggingStack) -> None:
    async with servers.replicas() as (bus, database):
        appender = Appender(bus, LOGS_SUBJECT)
        late = [*chain(2000), *chain(2000, "data_0_1000"), root()]
        messages = [late[start : start + 100] for start in range(0, len(late), 100)]
        for message in [*messages[::2], *messages[1::2]]:
            await appender.append([one.model_dump_json().encode() for one in message])
        await bus.request(GetLog(principal=member(ORGANISATION), id="data_0"))
        async with asyncio.timeout(60):
            while not await is_finished(database):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await in_session(database) == len(late)


@pytest.mark.parametrize("step", ["insert_ancestors", "update_assignments"])
async def test_a_project_that_is_deleted_meanwhile_is_in_no_session(
    unpurged: Deps, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """All of it is purged after its logs were found: before they get their session, or at once after that."""
    real = getattr(UnresolvedLogStore, step)

    async def purge_after(*arguments: Any) -> Any:
        result = await real(*arguments)
        await unpurged.deletions.insert_deletion(ORGANISATION, "pr_1")
        await unpurged.purge.purge_pending()
        return result

    await store_message(unpurged, 1, *chain(5), log("data_kept", parent_id="data_0_5", project_id="pr_2"))
    monkeypatch.setattr(UnresolvedLogStore, step, purge_after)
    await store_message(unpurged, 2, log("data_0", session_id=SESSION, project_id="pr_0"))
    await unpurged.purge.purge_pending()
    session = await unpurged.sessions.get_session(ORGANISATION, SESSION)
    assert session is not None
    assert session.project_ids == {"pr_0", "pr_2"}


async def test_a_log_that_is_deleted_meanwhile_leaves_no_session(
    unpurged: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no session yet when it is deleted, so its deletion takes it out of none."""
    real = UnresolvedLogStore.insert_ancestors

    async def delete_first(*arguments: Any) -> None:
        deletion = LogDeleted(organisation=ORGANISATION, id="data_0_1", at=START)
        await store_message(unpurged, 3, deletion)
        await real(*arguments)

    await store_message(unpurged, 1, log("data_0_1", parent_id="data_0", project_id="pr_2"))
    monkeypatch.setattr(UnresolvedLogStore, "insert_ancestors", delete_first)
    await store_message(unpurged, 2, root())
    session = await unpurged.sessions.get_session(ORGANISATION, SESSION)
    assert session is not None
    assert session.project_ids == {root().project_id}
