"""What `logging` does when a project is deleted: a real MongoDB, a real NATS, one process or two."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TypeVar

import pytest
import pytest_asyncio
from pydantic import BaseModel

from services.logging.deps import Deps
from services.logging.handlers import logs as log_handlers
from services.logging.handlers import sessions as session_handlers
from shared import ids
from shared.appender import Appender
from shared.bus import Bus
from shared.contracts.logs import (
    LOGS_SUBJECT,
    ConfigUse,
    FeedbackOfLogs,
    GetConfigUse,
    GetFeedback,
    GetLog,
    GetSession,
    GetTree,
    GetUses,
    ListSessions,
    LogRecord,
    Logs,
    LogUpdate,
    ProjectDeleted,
    SearchLogs,
    Session,
    SessionOpened,
    Sessions,
    Tree,
    Uses,
)
from shared.errors import NotFound
from shared.mongo import Database
from tests.integration.logging.stack import LoggingStack, store_message
from tests.integration.servers import until_ready
from tests.principals import member
from tests.unit.logging.builders import START, log, update

ORGANISATION = "tm_1"
V = TypeVar("V", bound=BaseModel)


class LoggingClient:
    """A client of logging processes and their database."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self.bus = bus
        self.database = database
        self._appender = Appender(bus, LOGS_SUBJECT)

    async def accept(self, *records: LogRecord | LogUpdate | ProjectDeleted | SessionOpened) -> None:
        """Append records to `LOGS` as gateway and generation do; those of one call are in one message."""
        await self._appender.append([record.model_dump_json().encode() for record in records])

    async def logs_of(self, project_id: str, organisation: str = ORGANISATION) -> list[str]:
        found = await self.bus.request(SearchLogs(principal=member(organisation), project_id=project_id))
        return [one.id for one in found.logs]

    async def list_sessions(self, project_id: str) -> list[Session]:
        return (await self.bus.request(ListSessions(principal=member(ORGANISATION), project_id=project_id))).sessions

    async def until_purged(self, project_id: str) -> None:
        """Wait until the logs of the project are deleted: the purge goes on after the deletion is stored."""
        async with asyncio.timeout(20):
            while await self.database["logs"].count_documents({"project_id": project_id}):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def deleted(project_id: str, organisation: str = ORGANISATION) -> ProjectDeleted:
    """Return the record of a deletion."""
    return ProjectDeleted(organisation=organisation, project_id=project_id, at=START)


@pytest_asyncio.fixture(loop_scope="session")
async def client(servers: LoggingStack) -> AsyncIterator[LoggingClient]:
    async with servers.replicas() as (bus, database):
        yield LoggingClient(bus, database)


async def test_logs_of_the_project_are_deleted_and_others_stay(client: LoggingClient) -> None:
    mine = [log(f"data_{number}", project_id="pr_gone", seconds=number) for number in range(2500)]
    await client.accept(*mine, log("data_kept", project_id="pr_kept"))
    await client.accept(log("data_foreign", project_id="pr_gone", organisation="tm_2"))
    assert len(await client.logs_of("pr_gone")) == 50
    await client.accept(deleted("pr_gone"))
    assert await client.logs_of("pr_gone") == []
    assert await client.logs_of("pr_kept") == ["data_kept"]
    assert await client.logs_of("pr_gone", "tm_2") == ["data_foreign"]
    with pytest.raises(NotFound):
        await client.bus.request(GetLog(principal=member(ORGANISATION), id="data_7"))


async def test_a_log_that_comes_later_is_not_kept(client: LoggingClient) -> None:
    await client.accept(deleted("pr_gone"))
    assert await client.logs_of("pr_gone") == [], "the question waits until the deletion is stored"
    await client.accept(
        log("data_late", project_id="pr_gone", session_id="sesh_1"), log("data_2", project_id="pr_kept")
    )
    assert await client.logs_of("pr_gone") == []
    assert await client.logs_of("pr_kept") == ["data_2"]
    with pytest.raises(NotFound):
        await client.bus.request(GetSession(principal=member(ORGANISATION), id="sesh_1"))
    await client.accept(deleted("pr_gone"))
    assert await client.logs_of("pr_kept") == ["data_2"]


async def test_a_log_in_the_same_message_is_not_kept_either(client: LoggingClient) -> None:
    await client.accept(log("data_1", project_id="pr_gone"), deleted("pr_gone"), log("data_2", project_id="pr_gone"))
    assert await client.logs_of("pr_gone") == []
    await client.until_purged("pr_gone")


async def test_sessions_keep_the_logs_of_other_projects(client: LoggingClient) -> None:
    await client.accept(
        log("data_1", project_id="pr_gone", session_id="sesh_both", inputs={"from": "gone"}, output="gone"),
        log("data_2", project_id="pr_kept", session_id="sesh_both", inputs={"from": "kept"}, seconds=1, output="kept"),
        log("data_3", project_id="pr_gone", session_id="sesh_alone"),
        SessionOpened(id="sesh_empty", organisation=ORGANISATION, created_at=START + timedelta(seconds=9)),
    )
    await client.accept(deleted("pr_gone"))
    assert await client.list_sessions("pr_gone") == []
    (left,) = await client.list_sessions("pr_kept")
    assert (left.id, left.project_ids, left.datapoints_count) == ("sesh_both", ["pr_kept"], 1)
    assert (left.first_inputs, left.last_output) == ({"from": "kept"}, "kept")
    with pytest.raises(NotFound):
        await client.bus.request(GetSession(principal=member(ORGANISATION), id="sesh_alone"))
    empty = await client.bus.request(GetSession(principal=member(ORGANISATION), id="sesh_empty"))
    assert empty.datapoints_count == 0
    await client.accept(log("data_4", project_id="pr_kept", session_id="sesh_alone"))
    again = await client.bus.request(GetSession(principal=member(ORGANISATION), id="sesh_alone"))
    assert again.project_ids == ["pr_kept"]


async def test_unresolved_logs_of_the_project_are_deleted(client: LoggingClient) -> None:
    await client.accept(log("data_child", project_id="pr_gone", parent_id="data_parent"))
    await client.accept(deleted("pr_gone"))
    await client.accept(log("data_parent", project_id="pr_kept", session_id="sesh_1"))
    found = await client.bus.request(GetSession(principal=member(ORGANISATION), id="sesh_1"))
    assert (found.datapoints_count, found.project_ids) == (1, ["pr_kept"])


async def test_nothing_is_left_of_logs_that_arrive_while_it_is_deleted(client: LoggingClient) -> None:
    """Two replicas have parts of it in hand at once."""

    async def write(number: int) -> None:
        for part in range(20):
            log_id = f"data_{number}_{part}"
            await client.accept(
                log(log_id, project_id="pr_gone", session_id=f"sesh_{part}"),
                log(f"{log_id}_kept", project_id="pr_kept", session_id=f"sesh_{part}"),
            )

    async def delete() -> None:
        await asyncio.sleep(0.1)
        await client.accept(deleted("pr_gone"))

    await asyncio.gather(*(write(number) for number in range(10)), delete())
    kept = await client.bus.request(GetUses(principal=member(ORGANISATION), project_ids=["pr_gone", "pr_kept"]))
    assert {project_id: use.logs for project_id, use in kept.projects.items()} == {"pr_kept": 200}
    assert await client.list_sessions("pr_gone") == []
    sessions = await client.bus.request(ListSessions(principal=member(ORGANISATION), project_id="pr_kept"))
    assert sessions.total == 20
    await client.until_purged("pr_gone")


async def test_use_is_counted_for_many_at_once(client: LoggingClient) -> None:
    await client.accept(
        log(ids.mint("data"), project_id="pr_1", config_id="config_1", seconds=5),
        log(ids.mint("data"), project_id="pr_1", config_id="config_2", seconds=1),
        log(ids.mint("data"), project_id="pr_2", config_id="config_3", seconds=3),
        log(ids.mint("data"), project_id="pr_1", organisation="tm_2", seconds=9),
    )
    wanted = GetUses(principal=member(ORGANISATION), project_ids=["pr_1", "pr_3"], config_ids=["config_2", "config_3"])
    uses = await client.bus.request(wanted)
    assert {key: (use.logs, use.last_used) for key, use in uses.projects.items()} == {
        "pr_1": (2, START + timedelta(seconds=5))
    }
    assert {key: (use.logs, use.last_used) for key, use in uses.configs.items()} == {
        "config_2": (1, START + timedelta(seconds=1)),
        "config_3": (1, START + timedelta(seconds=3)),
    }


async def test_an_update_of_a_deleted_log_does_not_bring_it_back(client: LoggingClient) -> None:
    await client.accept(log("data_1", project_id="pr_gone"))
    await client.accept(deleted("pr_gone"))
    await client.accept(update("data_1", output="late"))
    assert await client.logs_of("pr_gone") == []
    with pytest.raises(NotFound):
        await client.bus.request(GetLog(principal=member(ORGANISATION), id="data_1"))


async def test_an_update_after_the_purge_leaves_no_stub(client: LoggingClient) -> None:
    await client.accept(log("data_1", project_id="pr_gone"))
    await client.accept(deleted("pr_gone"))
    await client.until_purged("pr_gone")
    await client.accept(
        update("data_1", output="late", project_id="pr_gone"), update("data_2", output="early", project_id="pr_kept")
    )
    assert await client.logs_of("pr_gone") == [], "the question waits until the updates are stored"
    assert [one["_id"] async for one in client.database["logs"].find()] == [f"{ORGANISATION}/data_2"]


async def test_a_purge_interrupted_by_a_kill_is_finished_by_the_next_process(servers: LoggingStack) -> None:
    await servers.delete_streams()
    prefix = f"t{secrets.token_hex(4)}"
    async with servers.bus() as bus:
        with servers.database(prefix) as database:
            client = LoggingClient(bus, database)
            process = servers.logging(prefix)
            process.start()
            await until_ready(bus, "logging")
            await client.accept(
                *(log(f"data_{number}", project_id="pr_gone", session_id="sesh_1") for number in range(1500))
            )
            assert len(await client.logs_of("pr_gone")) == 50
            process.kill()
            await database["deletions"].insert_one(
                {"_id": f"{ORGANISATION}/pr_gone", "organisation": ORGANISATION, "project_id": "pr_gone"}
            )
            process.start()
            await until_ready(bus, "logging")
            await client.until_purged("pr_gone")
            async with asyncio.timeout(20):
                while not await database["deletions"].count_documents({"removed_at": {"$exists": True}}):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert await database["sessions"].count_documents({}) == 0
    servers.stop_logging()


def checked(kind: type[V], answer: BaseModel) -> V:
    """Return the answer as `kind`; handlers are declared to return any model."""
    assert isinstance(answer, kind)
    return answer


async def test_storing_does_not_wait_for_the_purge_and_reads_hide_what_is_left(unpurged: Deps) -> None:
    await store_message(
        unpurged,
        1,
        log("data_1", project_id="pr_gone", session_id="sesh_alone"),
        log("data_2", project_id="pr_gone", session_id="sesh_both", inputs={"from": "gone"}),
        log("data_3", project_id="pr_kept", session_id="sesh_both", inputs={"from": "kept"}, config_id="config_2"),
    )
    wanted = GetUses(
        principal=member(ORGANISATION), project_ids=["pr_gone", "pr_kept"], config_ids=["config_1", "config_2"]
    )
    assert set((checked(Uses, await log_handlers.get_uses(wanted, unpurged))).configs) == {"config_1", "config_2"}
    await store_message(unpurged, 2, deleted("pr_gone"), log("data_4", project_id="pr_gone", session_id="sesh_alone"))
    assert await unpurged.logs.get_log(ORGANISATION, "data_1") is not None, "nothing was removed while storing"
    for log_id in ("data_1", "data_4"):
        with pytest.raises(NotFound):
            await log_handlers.get_log(GetLog(principal=member(ORGANISATION), id=log_id), unpurged)
    asked = GetFeedback(principal=member(ORGANISATION), log_ids=["data_1", "data_3", "data_4"], types=["rating"])
    about = checked(FeedbackOfLogs, await log_handlers.get_feedback(asked, unpurged))
    assert [one.log_id for one in about.logs] == ["data_3"]
    search = SearchLogs(principal=member(ORGANISATION), project_id="pr_gone")
    assert (checked(Logs, await log_handlers.search_logs(search, unpurged))).total == 0
    uses = checked(Uses, await log_handlers.get_uses(wanted, unpurged))
    assert (set(uses.projects), set(uses.configs)) == ({"pr_kept"}, {"config_2"})
    use = checked(
        ConfigUse,
        await log_handlers.get_config_use(GetConfigUse(principal=member(ORGANISATION), config_id="config_1"), unpurged),
    )
    assert use.logs == 0
    list_sessions = ListSessions(principal=member(ORGANISATION), project_id="pr_gone")
    assert (checked(Sessions, await session_handlers.list_sessions(list_sessions, unpurged))).total == 0
    for query in ("sesh_alone", "sesh_unknown"):
        with pytest.raises(NotFound):
            await session_handlers.get_session(GetSession(principal=member(ORGANISATION), id=query), unpurged)
    both = checked(
        Session,
        await session_handlers.get_session(GetSession(principal=member(ORGANISATION), id="sesh_both"), unpurged),
    )
    assert (both.project_ids, both.datapoints_count, both.first_inputs) == (["pr_kept"], 1, {"from": "kept"})
    shown = checked(
        Tree, await session_handlers.get_tree(GetTree(principal=member(ORGANISATION), session_id="sesh_both"), unpurged)
    )
    assert [node.id for node in shown.roots] == ["data_3"]
    await unpurged.purge.purge_pending()
    assert await unpurged.logs.get_log(ORGANISATION, "data_1") is None
    assert await unpurged.deletions.list_hidden_project_ids(ORGANISATION) == []


async def test_a_log_stored_during_the_purge_is_purged(unpurged: Deps) -> None:
    await store_message(unpurged, 1, deleted("pr_gone"))
    (before,) = await unpurged.deletions.list_pending(10)
    await store_message(unpurged, 2, log("data_late", project_id="pr_gone"))
    await unpurged.deletions.mark_purged(before)
    assert await unpurged.deletions.list_hidden_project_ids(ORGANISATION) == ["pr_gone"], (
        "not finished: a log came meanwhile"
    )
    await unpurged.purge.purge_pending()
    assert await unpurged.logs.get_log(ORGANISATION, "data_late") is None
    await store_message(unpurged, 3, log("data_later", project_id="pr_gone"))
    assert await unpurged.deletions.list_hidden_project_ids(ORGANISATION) == ["pr_gone"]
