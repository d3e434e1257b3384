"""What `logging` does when a project is deleted: a real MongoDB, a real NATS, one process or two."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import TypeVar, cast

import pytest
import pytest_asyncio
from pydantic import BaseModel

from services.logging.deps import Deps
from services.logging.handlers import intake
from services.logging.handlers import logs as questions
from services.logging.handlers import sessions as session_questions
from services.logging.purge import Purge
from services.logging.read_barrier import ReadBarrier
from services.logging.store import DeletionStore, LogStore, SessionStore
from shared import ids
from shared.appender import Appender
from shared.bus import Batch, Bus, ConsumerProgress, StreamSpec, ensure_stream
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
from tests.integration.logging_fixtures import Running, Stack
from tests.integration.servers import until_ready
from tests.unit.logging.builders import START, log, update

ORGANISATION = "tm_1"
V = TypeVar("V", bound=BaseModel)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers() -> AsyncIterator[Stack]:
    async with Running() as stack:
        yield stack


class World:
    """Two logging processes and a caller."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self.bus = bus
        self.database = database
        self._appender = Appender(bus, LOGS_SUBJECT)

    async def accept(self, *records: LogRecord | LogUpdate | ProjectDeleted | SessionOpened) -> None:
        """What gateway and generation do."""
        await self._appender.append([record.model_dump_json().encode() for record in records])

    async def logs_of(self, project_id: str, organisation: str = ORGANISATION) -> list[str]:
        found = await self.bus.request(SearchLogs(organisation=organisation, project_id=project_id))
        return [one.id for one in found.logs]

    async def sessions_of(self, project_id: str) -> list[Session]:
        return (await self.bus.request(ListSessions(organisation=ORGANISATION, project_id=project_id))).sessions

    async def until_gone(self, project_id: str) -> None:
        """Removing goes on after the answer."""
        async with asyncio.timeout(20):
            while await self.database["logs"].count_documents({"project_id": project_id}):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def deleted(project_id: str, organisation: str = ORGANISATION) -> ProjectDeleted:
    """The record of a deletion."""
    return ProjectDeleted(organisation=organisation, project_id=project_id, at=START)


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Stack) -> AsyncIterator[World]:
    await servers.empty()
    prefix = f"t{secrets.token_hex(4)}"
    async with servers.bus() as bus:
        with servers.database(prefix) as database:
            for _ in range(2):
                servers.logging(prefix).start()
            await until_ready(bus, "logging")
            yield World(bus, database)
    servers.stop_logging()


async def test_logs_go_and_those_of_others_stay(world: World) -> None:
    mine = [log(f"data_{number}", project_id="pr_gone", seconds=number) for number in range(2500)]
    await world.accept(*mine, log("data_kept", project_id="pr_kept"))
    await world.accept(log("data_foreign", project_id="pr_gone", organisation="tm_2"))
    assert len(await world.logs_of("pr_gone")) == 50
    await world.accept(deleted("pr_gone"))
    assert await world.logs_of("pr_gone") == []
    assert await world.logs_of("pr_kept") == ["data_kept"]
    assert await world.logs_of("pr_gone", "tm_2") == ["data_foreign"]
    with pytest.raises(NotFound):
        await world.bus.request(GetLog(organisation=ORGANISATION, id="data_7"))


async def test_a_log_that_comes_later_is_not_kept(world: World) -> None:
    await world.accept(deleted("pr_gone"))
    assert await world.logs_of("pr_gone") == [], "the question waits until the deletion is stored"
    await world.accept(log("data_late", project_id="pr_gone", session_id="sesh_1"), log("data_2", project_id="pr_kept"))
    assert await world.logs_of("pr_gone") == []
    assert await world.logs_of("pr_kept") == ["data_2"]
    with pytest.raises(NotFound):
        await world.bus.request(GetSession(organisation=ORGANISATION, id="sesh_1"))
    await world.accept(deleted("pr_gone"))
    assert await world.logs_of("pr_kept") == ["data_2"]


async def test_a_log_in_the_same_message_is_not_kept_either(world: World) -> None:
    await world.accept(log("data_1", project_id="pr_gone"), deleted("pr_gone"), log("data_2", project_id="pr_gone"))
    assert await world.logs_of("pr_gone") == []
    await world.until_gone("pr_gone")


async def test_sessions_keep_the_logs_of_other_projects(world: World) -> None:
    await world.accept(
        log("data_1", project_id="pr_gone", session_id="sesh_both", inputs={"from": "gone"}, output="gone"),
        log("data_2", project_id="pr_kept", session_id="sesh_both", inputs={"from": "kept"}, seconds=1, output="kept"),
        log("data_3", project_id="pr_gone", session_id="sesh_alone"),
        SessionOpened(id="sesh_empty", organisation=ORGANISATION, created_at=START + timedelta(seconds=9)),
    )
    await world.accept(deleted("pr_gone"))
    assert await world.sessions_of("pr_gone") == []
    (left,) = await world.sessions_of("pr_kept")
    assert (left.id, left.project_ids, left.datapoints_count) == ("sesh_both", ["pr_kept"], 1)
    assert (left.first_inputs, left.last_output) == ({"from": "kept"}, "kept")
    with pytest.raises(NotFound):
        await world.bus.request(GetSession(organisation=ORGANISATION, id="sesh_alone"))
    empty = await world.bus.request(GetSession(organisation=ORGANISATION, id="sesh_empty"))
    assert empty.datapoints_count == 0
    await world.accept(log("data_4", project_id="pr_kept", session_id="sesh_alone"))
    again = await world.bus.request(GetSession(organisation=ORGANISATION, id="sesh_alone"))
    assert again.project_ids == ["pr_kept"]


async def test_logs_that_wait_for_their_parent_go_as_well(world: World) -> None:
    await world.accept(log("data_child", project_id="pr_gone", parent_id="data_parent"))
    await world.accept(deleted("pr_gone"))
    await world.accept(log("data_parent", project_id="pr_kept", session_id="sesh_1"))
    found = await world.bus.request(GetSession(organisation=ORGANISATION, id="sesh_1"))
    assert (found.datapoints_count, found.project_ids) == (1, ["pr_kept"])


async def test_nothing_is_left_of_logs_that_arrive_while_it_is_deleted(world: World) -> None:
    """Two replicas have parts of it in hand at once."""

    async def write(number: int) -> None:
        for part in range(20):
            log_id = f"data_{number}_{part}"
            await world.accept(
                log(log_id, project_id="pr_gone", session_id=f"sesh_{part}"),
                log(f"{log_id}_kept", project_id="pr_kept", session_id=f"sesh_{part}"),
            )

    async def delete() -> None:
        await asyncio.sleep(0.1)
        await world.accept(deleted("pr_gone"))

    await asyncio.gather(*(write(number) for number in range(10)), delete())
    kept = await world.bus.request(GetUses(organisation=ORGANISATION, project_ids=["pr_gone", "pr_kept"]))
    assert {project_id: use.logs for project_id, use in kept.projects.items()} == {"pr_kept": 200}
    assert await world.sessions_of("pr_gone") == []
    sessions = await world.bus.request(ListSessions(organisation=ORGANISATION, project_id="pr_kept"))
    assert sessions.total == 20
    await world.until_gone("pr_gone")


async def test_use_is_counted_for_many_at_once(world: World) -> None:
    await world.accept(
        log(ids.mint("data"), project_id="pr_1", config_id="config_1", seconds=5),
        log(ids.mint("data"), project_id="pr_1", config_id="config_2", seconds=1),
        log(ids.mint("data"), project_id="pr_2", config_id="config_3", seconds=3),
        log(ids.mint("data"), project_id="pr_1", organisation="tm_2", seconds=9),
    )
    wanted = GetUses(organisation=ORGANISATION, project_ids=["pr_1", "pr_3"], config_ids=["config_2", "config_3"])
    uses = await world.bus.request(wanted)
    assert {key: (use.logs, use.last_used) for key, use in uses.projects.items()} == {
        "pr_1": (2, START + timedelta(seconds=5))
    }
    assert {key: (use.logs, use.last_used) for key, use in uses.configs.items()} == {
        "config_2": (1, START + timedelta(seconds=1)),
        "config_3": (1, START + timedelta(seconds=3)),
    }


async def test_an_update_of_a_log_that_went_with_its_project_brings_nothing_back(world: World) -> None:
    await world.accept(log("data_1", project_id="pr_gone"))
    await world.accept(deleted("pr_gone"))
    await world.accept(update("data_1", output="late"))
    assert await world.logs_of("pr_gone") == []
    with pytest.raises(NotFound):
        await world.bus.request(GetLog(organisation=ORGANISATION, id="data_1"))


async def test_an_update_of_a_log_that_is_gone_leaves_no_stub(world: World) -> None:
    await world.accept(log("data_1", project_id="pr_gone"))
    await world.accept(deleted("pr_gone"))
    await world.until_gone("pr_gone")
    await world.accept(
        update("data_1", output="late", project_id="pr_gone"), update("data_2", output="early", project_id="pr_kept")
    )
    assert await world.logs_of("pr_gone") == [], "the question waits until the updates are stored"
    assert [one["_id"] async for one in world.database["logs"].find()] == [f"{ORGANISATION}/data_2"]


async def test_what_a_killed_process_did_not_remove_the_next_one_does(servers: Stack) -> None:
    await servers.empty()
    prefix = f"t{secrets.token_hex(4)}"
    async with servers.bus() as bus:
        with servers.database(prefix) as database:
            world = World(bus, database)
            process = servers.logging(prefix)
            process.start()
            await until_ready(bus, "logging")
            await world.accept(
                *(log(f"data_{number}", project_id="pr_gone", session_id="sesh_1") for number in range(1500))
            )
            assert len(await world.logs_of("pr_gone")) == 50
            process.kill()
            await database["deletions"].insert_one(
                {"_id": f"{ORGANISATION}/pr_gone", "organisation": ORGANISATION, "project_id": "pr_gone"}
            )
            process.start()
            await until_ready(bus, "logging")
            await world.until_gone("pr_gone")
            async with asyncio.timeout(20):
                while not await database["deletions"].count_documents({"removed_at": {"$exists": True}}):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert await database["sessions"].count_documents({}) == 0
    servers.stop_logging()


@pytest_asyncio.fixture(loop_scope="session")
async def unremoved(servers: Stack) -> AsyncIterator[Deps]:
    """What handlers work with in a process that has not come to removing anything yet."""
    await servers.empty()
    async with servers.bus("operator") as bus:
        await ensure_stream(bus, StreamSpec("EVENTS", ("events.>",)))
        with servers.database(f"t{secrets.token_hex(4)}") as database:
            stores = LogStore(database), SessionStore(database), DeletionStore(database)
            for store in stores:
                await store.prepare()

            async def reached() -> ConsumerProgress:
                return ConsumerProgress(first=1, last=0, floor=0)

            kept, sessions, deletions = stores
            yield Deps(bus, kept, sessions, deletions, ReadBarrier(reached, 2.0), Purge(deletions, kept, sessions))


async def stored(deps: Deps, sequence: int, *records: LogRecord | ProjectDeleted) -> None:
    """A message of these is stored."""
    message = SimpleNamespace(
        metadata=SimpleNamespace(sequence=SimpleNamespace(stream=sequence)),
        data=b"[" + b",".join(record.model_dump_json().encode() for record in records) + b"]",
    )
    await intake.store_batch(cast("Batch", SimpleNamespace(messages=[message])), deps)


def seen(kind: type[V], answer: BaseModel) -> V:
    """The answer, which handlers are declared to give as any model."""
    assert isinstance(answer, kind)
    return answer


async def test_storing_does_not_wait_for_the_removal_and_nobody_sees_what_is_left(unremoved: Deps) -> None:
    await stored(
        unremoved,
        1,
        log("data_1", project_id="pr_gone", session_id="sesh_alone"),
        log("data_2", project_id="pr_gone", session_id="sesh_both", inputs={"from": "gone"}),
        log("data_3", project_id="pr_kept", session_id="sesh_both", inputs={"from": "kept"}, config_id="config_2"),
    )
    wanted = GetUses(organisation=ORGANISATION, project_ids=["pr_gone", "pr_kept"], config_ids=["config_1", "config_2"])
    assert set((seen(Uses, await questions.get_uses(wanted, unremoved))).configs) == {"config_1", "config_2"}
    await stored(unremoved, 2, deleted("pr_gone"), log("data_4", project_id="pr_gone", session_id="sesh_alone"))
    assert await unremoved.logs.get(ORGANISATION, "data_1") is not None, "nothing was removed while storing"
    for log_id in ("data_1", "data_4"):
        with pytest.raises(NotFound):
            await questions.get_log(GetLog(organisation=ORGANISATION, id=log_id), unremoved)
    asked = GetFeedback(organisation=ORGANISATION, log_ids=["data_1", "data_3", "data_4"], types=["rating"])
    about = seen(FeedbackOfLogs, await questions.get_feedback(asked, unremoved))
    assert [one.log_id for one in about.logs] == ["data_3"]
    search = SearchLogs(organisation=ORGANISATION, project_id="pr_gone")
    assert (seen(Logs, await questions.search_logs(search, unremoved))).total == 0
    uses = seen(Uses, await questions.get_uses(wanted, unremoved))
    assert (set(uses.projects), set(uses.configs)) == ({"pr_kept"}, {"config_2"})
    use = seen(
        ConfigUse,
        await questions.get_config_use(GetConfigUse(organisation=ORGANISATION, config_id="config_1"), unremoved),
    )
    assert use.logs == 0
    listed = ListSessions(organisation=ORGANISATION, project_id="pr_gone")
    assert (seen(Sessions, await session_questions.list_sessions(listed, unremoved))).total == 0
    for query in ("sesh_alone", "sesh_unknown"):
        with pytest.raises(NotFound):
            await session_questions.get_session(GetSession(organisation=ORGANISATION, id=query), unremoved)
    both = seen(
        Session, await session_questions.get_session(GetSession(organisation=ORGANISATION, id="sesh_both"), unremoved)
    )
    assert (both.project_ids, both.datapoints_count, both.first_inputs) == (["pr_kept"], 1, {"from": "kept"})
    shown = seen(
        Tree, await session_questions.get_tree(GetTree(organisation=ORGANISATION, session_id="sesh_both"), unremoved)
    )
    assert [node.id for node in shown.roots] == ["data_3"]
    await unremoved.removal.finish()
    assert await unremoved.logs.get(ORGANISATION, "data_1") is None
    assert await unremoved.deletions.hidden(ORGANISATION) == []


async def test_what_comes_while_it_is_removed_is_removed_as_well(unremoved: Deps) -> None:
    await stored(unremoved, 1, deleted("pr_gone"))
    (before,) = await unremoved.deletions.unfinished(10)
    await stored(unremoved, 2, log("data_late", project_id="pr_gone"))
    await unremoved.deletions.finish(before)
    assert await unremoved.deletions.hidden(ORGANISATION) == ["pr_gone"], "not finished: a log came meanwhile"
    await unremoved.removal.finish()
    assert await unremoved.logs.get(ORGANISATION, "data_late") is None
    await stored(unremoved, 3, log("data_later", project_id="pr_gone"))
    assert await unremoved.deletions.hidden(ORGANISATION) == ["pr_gone"]
