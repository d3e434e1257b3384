"""What `logging` does when a project is deleted: a real MongoDB, a real NATS, one process or two."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from shared import ids
from shared.appender import Appender
from shared.bus import Bus
from shared.contracts.logs import (
    LOGS_SUBJECT,
    GetLog,
    GetSession,
    GetUses,
    ListSessions,
    LogRecord,
    LogUpdate,
    ProjectDeleted,
    SearchLogs,
    Session,
    SessionOpened,
)
from shared.errors import NotFound
from shared.mongo import Database
from tests.integration.logging_fixtures import Running, Stack
from tests.integration.servers import until_ready
from tests.unit.logging.builders import START, log, update

ORGANISATION = "tm_1"


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
        found = await self.bus.ask(SearchLogs(organisation=organisation, project_id=project_id))
        return [one.id for one in found.logs]

    async def sessions_of(self, project_id: str) -> list[Session]:
        return (await self.bus.ask(ListSessions(organisation=ORGANISATION, project_id=project_id))).sessions


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
        await world.bus.ask(GetLog(organisation=ORGANISATION, id="data_7"))


async def test_a_log_that_comes_later_is_not_kept(world: World) -> None:
    await world.accept(deleted("pr_gone"))
    assert await world.logs_of("pr_gone") == [], "the question waits until the deletion is stored"
    await world.accept(log("data_late", project_id="pr_gone", session_id="sesh_1"), log("data_2", project_id="pr_kept"))
    assert await world.logs_of("pr_gone") == []
    assert await world.logs_of("pr_kept") == ["data_2"]
    with pytest.raises(NotFound):
        await world.bus.ask(GetSession(organisation=ORGANISATION, id="sesh_1"))
    await world.accept(deleted("pr_gone"))
    assert await world.logs_of("pr_kept") == ["data_2"]


async def test_a_log_in_the_same_message_is_not_kept_either(world: World) -> None:
    await world.accept(log("data_1", project_id="pr_gone"), deleted("pr_gone"), log("data_2", project_id="pr_gone"))
    assert await world.logs_of("pr_gone") == []
    assert await world.database["logs"].count_documents({}) == 0


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
        await world.bus.ask(GetSession(organisation=ORGANISATION, id="sesh_alone"))
    empty = await world.bus.ask(GetSession(organisation=ORGANISATION, id="sesh_empty"))
    assert empty.datapoints_count == 0
    await world.accept(log("data_4", project_id="pr_kept", session_id="sesh_alone"))
    again = await world.bus.ask(GetSession(organisation=ORGANISATION, id="sesh_alone"))
    assert again.project_ids == ["pr_kept"]


async def test_logs_that_wait_for_their_parent_go_as_well(world: World) -> None:
    await world.accept(log("data_child", project_id="pr_gone", parent_id="data_parent"))
    await world.accept(deleted("pr_gone"))
    await world.accept(log("data_parent", project_id="pr_kept", session_id="sesh_1"))
    found = await world.bus.ask(GetSession(organisation=ORGANISATION, id="sesh_1"))
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
    kept = await world.bus.ask(GetUses(organisation=ORGANISATION, project_ids=["pr_gone", "pr_kept"]))
    assert {project_id: use.logs for project_id, use in kept.projects.items()} == {"pr_kept": 200}
    assert await world.sessions_of("pr_gone") == []
    sessions = await world.bus.ask(ListSessions(organisation=ORGANISATION, project_id="pr_kept"))
    assert sessions.total == 20
    assert await world.database["logs"].count_documents({"project_id": "pr_gone"}) == 0


async def test_use_is_counted_for_many_at_once(world: World) -> None:
    await world.accept(
        log(ids.mint("data"), project_id="pr_1", config_id="config_1", seconds=5),
        log(ids.mint("data"), project_id="pr_1", config_id="config_2", seconds=1),
        log(ids.mint("data"), project_id="pr_2", config_id="config_3", seconds=3),
        log(ids.mint("data"), project_id="pr_1", organisation="tm_2", seconds=9),
    )
    wanted = GetUses(organisation=ORGANISATION, project_ids=["pr_1", "pr_3"], config_ids=["config_2", "config_3"])
    uses = await world.bus.ask(wanted)
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
        await world.bus.ask(GetLog(organisation=ORGANISATION, id="data_1"))
