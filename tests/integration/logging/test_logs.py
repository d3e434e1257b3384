"""The logging service as a process, with a real MongoDB and a real NATS."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.msg import Msg
from pydantic import BaseModel

from services.logging.decoding import Entry
from services.logging.session_resolution import LogKey, SessionAssignment
from services.logging.store import DeletionStore, LogStore, SessionStore, UnresolvedLogStore
from shared import ids
from shared.appender import Appender
from shared.bus import Bus, get_consumer_progress
from shared.contracts.dead_letters import DeadLetter
from shared.contracts.logs import (
    LOGS_SUBJECT,
    GetLog,
    GetSession,
    GetSessionsOfLogs,
    GetTree,
    ListSessions,
    LogRecord,
    LogsRecorded,
    LogsUpdated,
    Node,
    Page,
    SearchLogs,
    Session,
    SessionOpened,
    Sort,
)
from shared.contracts.message import Request
from shared.errors import NotFound, Unavailable
from shared.mongo import Database, ping
from tests.integration.logging.stack import LoggingStack
from tests.integration.servers import Process, until_ready
from tests.principals import member
from tests.unit.logging.builders import START, feedback, golden_documents, log, update

ORGANISATION = "tm_1"


@dataclass
class LoggingClient:
    """A client of logging processes on a stack with empty streams and an unused database."""

    stack: LoggingStack
    prefix: str
    bus: Bus
    database: Database
    appender: Appender

    async def start(self, **environment: str) -> Process:
        """Start a logging process and wait until it answers."""
        server = self.stack.logging(self.prefix, **environment)
        server.start()
        await until_ready(self.bus, "logging")
        return server

    async def accept(self, *records: BaseModel) -> int:
        """Append records to `LOGS` as the gateway does; those of one call are in one message."""
        return await self.appender.append([record.model_dump_json().encode() for record in records])

    async def session(self, session_id: str) -> Session:
        return await self.bus.request(GetSession(principal=member(ORGANISATION), id=session_id))

    async def output(self, log_id: str) -> str | None:
        return (await self.bus.request(GetLog(principal=member(ORGANISATION), id=log_id))).output

    async def events(self) -> list[Msg]:
        return await self.stream("EVENTS")

    async def stream(self, name: str) -> list[Msg]:
        """Return every message of a stream."""
        async with self.stack.bus("operator") as operator:
            jetstream = operator.client.jetstream()
            count = (await jetstream.stream_info(name)).state.messages
            subscription = await jetstream.subscribe("", stream=name, ordered_consumer=True)
            return [await subscription.next_msg(timeout=5) for _ in range(count)]

    async def until_stored(self, seconds: float = 60) -> None:
        """Wait until every message of `LOGS` is stored and acknowledged."""
        async with self.stack.bus("logging") as bus, asyncio.timeout(seconds):
            while (reached := await get_consumer_progress(bus, "LOGS", "logging")).ack_floor < reached.last_sequence:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="session")
async def client(servers: LoggingStack) -> AsyncIterator[LoggingClient]:
    await servers.delete_streams()
    prefix = f"t{secrets.token_hex(4)}"
    async with servers.bus() as bus:
        with servers.database(prefix) as database:
            yield LoggingClient(servers, prefix, bus, database, Appender(bus, LOGS_SUBJECT))
    servers.stop_logging()


@pytest_asyncio.fixture(loop_scope="session")
async def started(client: LoggingClient) -> LoggingClient:
    await client.start()
    return client


@pytest_asyncio.fixture(loop_scope="session")
async def store(servers: LoggingStack) -> AsyncIterator[LogStore]:
    with servers.database(f"t{secrets.token_hex(4)}") as database:
        empty = LogStore(database)
        await empty.prepare()
        yield empty


async def test_a_log_is_read_as_it_was_accepted(started: LoggingClient) -> None:
    record = log(
        inputs={"$q": {"a.b": 2**70}},
        messages=[{"role": "user", "content": "hi"}],
        output="out",
        session_id="sesh_1",
        feedback=[{"id": "ann_1", "type": "rating", "value": "good", "created_at": START}],
    )
    await started.accept(record)
    stored = await started.bus.request(GetLog(principal=member(ORGANISATION), id=record.id))
    assert LogRecord.model_validate(stored.model_dump(exclude={"updated_at"})) == record
    (event,) = await started.events()
    assert event.subject == f"events.{ORGANISATION}.log.recorded"
    assert [one.id for one in LogsRecorded.model_validate_json(event.data).logs] == [record.id]


async def test_an_organisation_sees_nothing_of_another(started: LoggingClient) -> None:
    await started.accept(log(session_id="sesh_1"), log(organisation="tm_2", output="theirs", session_id="sesh_1"))
    assert await started.output("data_1") is None
    assert (await started.session("sesh_1")).datapoints_count == 1
    found = await started.bus.request(SearchLogs(principal=member("tm_2"), project_id="pr_1"))
    assert [one.output for one in found.logs] == ["theirs"]
    queries: list[Request[Any]] = [
        GetLog(principal=member("tm_3"), id="data_1"),
        GetSession(principal=member("tm_3"), id="sesh_1"),
        GetTree(principal=member("tm_3"), session_id="sesh_1"),
    ]
    for query in queries:
        with pytest.raises(NotFound):
            await started.bus.request(query)
    assert (await started.bus.request(ListSessions(principal=member("tm_3"), project_id="pr_1"))).total == 0


async def test_of_one_log_sent_twice_the_first_stays(started: LoggingClient) -> None:
    await started.accept(log(output="first", session_id="sesh_1"), log(output="same message"))
    await started.accept(log(output="second", project_id="pr_2", session_id="sesh_2"))
    assert await started.output("data_1") == "first"
    found = await started.bus.request(SearchLogs(principal=member(ORGANISATION), project_id="pr_2"))
    assert found.total == 0
    with pytest.raises(NotFound):
        await started.session("sesh_2")
    assert len(await started.events()) == 1, "a repeat is no news"


async def test_updates_are_applied_whatever_the_order(started: LoggingClient) -> None:
    await started.accept(update(seconds=70, output="newest", error="e"))
    with pytest.raises(NotFound):
        await started.bus.request(GetLog(principal=member(ORGANISATION), id="data_1"))
    assert await started.events() == [], "what nobody can read is no news"
    await started.accept(log(output="own", error="own", duration=1, session_id="sesh_1"))
    await started.accept(update(seconds=65, output="older", duration=2.5))
    stored = await started.bus.request(GetLog(principal=member(ORGANISATION), id="data_1"))
    assert (stored.output, stored.error, stored.duration) == ("newest", "e", 2.5)
    assert stored.updated_at == START + timedelta(seconds=70)
    subjects = [event.subject.rpartition(".")[2] for event in await started.events()]
    assert subjects == ["recorded", "updated"]


async def test_a_deferred_output_becomes_the_last_of_its_session(started: LoggingClient) -> None:
    await started.accept(log("data_1", session_id="sesh_1", inputs={"q": 1}))
    await started.accept(log("data_2", seconds=1, session_id="sesh_1", parent_id="data_1", output="child"))
    assert (await started.session("sesh_1")).last_output == "child"
    await started.accept(update("data_1", seconds=2, output="parent, at last"))
    session = await started.session("sesh_1")
    assert session.last_output == "parent, at last"
    assert session.first_inputs == {"q": 1}
    assert session.updated_at == START + timedelta(seconds=2)
    (event,) = [event for event in await started.events() if event.subject.endswith("updated")]
    assert LogsUpdated.model_validate_json(event.data).ids == ["data_1"]


async def test_three_projects_share_a_session(started: LoggingClient) -> None:
    for place, project_id in enumerate(("pr_moderator", "pr_google", "pr_assistant")):
        await started.accept(
            log(
                f"data_{place}",
                seconds=place,
                project_id=project_id,
                session_id="sesh_1",
                session_reference_id="ref",
                inputs={"n": place},
                output=f"out {place}",
            )
        )
    for project_id in ("pr_moderator", "pr_google", "pr_assistant"):
        page = await started.bus.request(ListSessions(principal=member(ORGANISATION), project_id=project_id))
        assert page.total == 1
        (session,) = page.sessions
        assert session.project_ids == ["pr_moderator", "pr_google", "pr_assistant"]
        assert (session.datapoints_count, session.first_inputs, session.last_output) == (3, {"n": 0}, "out 2")
        assert session.reference_id == "ref"


async def test_sessions_are_listed_newest_first_and_in_pages(started: LoggingClient) -> None:
    await started.accept(*(log(f"data_{n}", seconds=n, session_id=f"sesh_{n}") for n in range(5)))
    await started.accept(SessionOpened(id="sesh_empty", organisation=ORGANISATION, created_at=START))
    asked = ListSessions(principal=member(ORGANISATION), project_id="pr_1", page=Page(number=1, size=2))
    page = await started.bus.request(asked)
    assert page.total == 5
    assert [session.id for session in page.sessions] == ["sesh_2", "sesh_1"]
    assert (await started.session("sesh_empty")).datapoints_count == 0
    assert (await started.bus.request(GetTree(principal=member(ORGANISATION), session_id="sesh_empty"))).roots == []


def lines(nodes: list[Node], depth: int = 0) -> list[str]:
    return [line for node in nodes for line in ("." * depth + node.id, *lines(node.children, depth + 1))]


@pytest.mark.parametrize("together", [True, False], ids=["in one message", "one by one"])
@pytest.mark.parametrize("order", ["parents first", "children first"])
async def test_descendants_join_the_session_of_their_ancestor(
    started: LoggingClient, order: str, together: bool
) -> None:
    family = [
        log("data_1", session_id="sesh_1"),
        log("data_2", seconds=1, parent_id="data_1", project_id="pr_2"),
        log("data_3", seconds=2, parent_id="data_2", project_id="pr_3"),
        log("data_4", seconds=3, parent_id="data_3"),
        log("data_5", seconds=4, parent_id="data_2"),
    ]
    if order == "children first":
        family.reverse()
    for records in [family] if together else [[one] for one in family]:
        await started.accept(*records)
        await started.until_stored()
    shown = await started.bus.request(GetTree(principal=member(ORGANISATION), session_id="sesh_1"))
    assert lines(shown.roots) == ["data_1", ".data_2", "..data_3", "...data_4", "..data_5"]
    session = await started.session("sesh_1")
    assert session.project_ids == ["pr_1", "pr_2", "pr_3"]
    assert (await started.bus.request(ListSessions(principal=member(ORGANISATION), project_id="pr_3"))).total == 1
    stored = await started.bus.request(GetLog(principal=member(ORGANISATION), id="data_4"))
    assert stored.session_id == "sesh_1"


async def test_descendants_of_a_log_without_a_session_are_resolved_without_one(started: LoggingClient) -> None:
    await started.accept(log("data_2", parent_id="data_1"))
    await started.accept(log("data_3", parent_id="data_2"))
    await started.until_stored()
    logs = started.database["logs"]
    assert await logs.count_documents({"waiting": True}) == 2
    await started.accept(log("data_1"))
    assert (await started.bus.request(GetLog(principal=member(ORGANISATION), id="data_3"))).session_id is None
    assert await logs.count_documents({"waiting": True}) == 0


@pytest.mark.parametrize("told", [False, True])
async def test_a_child_sent_with_its_parents_session_is_in_the_session_it_would_inherit(
    started: LoggingClient, told: bool
) -> None:
    await started.accept(log("data_1", session_id="sesh_1"), log("data_alone"), log("data_late", parent_id="data_none"))
    parents = ["data_1", "data_alone", "data_late", "data_none"]
    assignments = await started.bus.request(GetSessionsOfLogs(principal=member(ORGANISATION), log_ids=parents))
    assert assignments.sessions == {"data_1": "sesh_1", "data_alone": None}
    assert (await started.bus.request(GetSessionsOfLogs(principal=member("tm_2"), log_ids=parents))).sessions == {}
    for parent in parents:
        session_id = assignments.sessions.get(parent) if told else None
        await started.accept(log(f"{parent}_child", seconds=1, parent_id=parent, session_id=session_id))
    await started.accept(log("data_none", session_id="sesh_1", seconds=2))
    children = [f"{parent}_child" for parent in parents]
    stored = await started.bus.request(GetSessionsOfLogs(principal=member(ORGANISATION), log_ids=children))
    assert stored.sessions == {
        "data_1_child": "sesh_1",
        "data_alone_child": None,
        "data_late_child": "sesh_1",
        "data_none_child": "sesh_1",
    }
    shown = await started.bus.request(GetTree(principal=member(ORGANISATION), session_id="sesh_1"))
    alone, late = ["data_1", ".data_1_child"], ["data_none", ".data_late", "..data_late_child", ".data_none_child"]
    assert lines(shown.roots) == alone + late


async def test_a_record_that_cannot_be_stored_goes_to_dead_alone_with_its_reason(started: LoggingClient) -> None:
    await started.bus.append(LOGS_SUBJECT, b"not json", message_id="poison-1")
    good, bad = json.loads(log("data_good").model_dump_json()), {"kind": "log", "id": "data_bad"}
    await started.bus.append(LOGS_SUBJECT, json.dumps([bad, good]).encode(), message_id="poison-2")
    await started.accept(
        log("data_huge", tokens=2**70), log("data_fine"), log("data_early", created_at="0001-01-01T00:00:00+14:00")
    )
    assert await started.output("data_good") is None
    assert await started.output("data_fine") is None
    for log_id in ("data_bad", "data_huge", "data_early"):
        with pytest.raises(NotFound):
            await started.bus.request(GetLog(principal=member(ORGANISATION), id=log_id))
    dead = await started.stream("DEAD")
    reasons = [(message.headers or {})["Everloop-Reason"] for message in dead]
    assert [message.subject for message in dead] == ["dead.logs"] * 4
    assert reasons[0].startswith("not JSON")
    assert "organisation" in reasons[1]
    assert all("cannot be encoded" in reason for reason in reasons[2:])
    assert json.loads(dead[1].data) == [bad]
    letters = [
        DeadLetter.from_message(message.headers or {}, message.data, message.metadata.timestamp) for message in dead
    ]
    assert {letter.subject for letter in letters} == {LOGS_SUBJECT}
    assert [letter.organisation for letter in letters] == [None, None, ORGANISATION, ORGANISATION]


async def test_a_document_too_large_for_the_database_does_not_stop_its_neighbours(store: LogStore) -> None:
    logs = [log("a"), log("b", output="x" * 17_000_000), log("c", stdout="\ud800"), log("d")]
    assignments = {LogKey(ORGANISATION, one.id): SessionAssignment(None) for one in logs}
    result = await store.insert_logs([Entry(place, one) for place, one in enumerate(logs)], assignments)
    assert {key.id for key in result.rejected} == {"b", "c"}
    assert await store.get_many_stored_keys(assignments) == {LogKey(ORGANISATION, "a"), LogKey(ORGANISATION, "d")}
    big = [Entry(9, update("a", output="y" * 17_000_000)), Entry(10, update("d", output="z"))]
    assert set(await store.update_logs(big)) == {0}
    stored = await store.get_log(ORGANISATION, "d")
    assert stored is not None
    assert stored.output == "z"


async def test_the_first_accepted_wins_also_when_it_is_stored_second(store: LogStore) -> None:
    key = LogKey(ORGANISATION, "data_1")
    assignments = {key: SessionAssignment(None)}
    assert not (await store.insert_logs([Entry(2, log(output="2", source="sdk"))], assignments)).duplicates
    await store.update_logs([Entry(3, update(error="late"))])
    for _ in range(2):
        assert not (await store.insert_logs([Entry(1, log(output="1"))], assignments)).duplicates
        assert (await store.insert_logs([Entry(2, log(output="2", source="sdk"))], assignments)).duplicates == {key}
        stored = await store.get_log(*key)
        assert stored is not None
        assert (stored.output, stored.source, stored.error) == ("1", None, "late")


async def test_documents_of_an_earlier_version_are_read_and_updated(servers: LoggingStack) -> None:
    golden = golden_documents()
    with servers.database(f"t{secrets.token_hex(4)}") as database:
        logs, sessions, deletions = LogStore(database), SessionStore(database), DeletionStore(database)
        await logs.prepare()
        await database["logs"].insert_many([golden["log"], golden["unresolved_log"]])
        await database["sessions"].insert_one(golden["session"])
        await database["deletions"].insert_one(golden["deletion"])
        record = log("data_1", output="accepted later")
        added = await logs.insert_logs(
            [Entry(700_002, record)], {LogKey(ORGANISATION, "data_1"): SessionAssignment(None)}
        )
        assert added.duplicates == {LogKey(ORGANISATION, "data_1")}
        await logs.update_logs([Entry(1_000_000, update("data_1", seconds=59, output="older"))])
        late, early = feedback("ann_9", value="late"), feedback("ann_8", type="action", value="saved", labels=["saved"])
        await logs.upsert_feedback([Entry(1_000_000, late), Entry(100_000, early)])
        stored = await logs.get_log(ORGANISATION, "data_1")
        assert stored is not None
        assert (stored.output, [one.id for one in stored.feedback]) == ("later", ["ann_2", "ann_9"])
        (unresolved,) = await UnresolvedLogStore(database).list_children(ORGANISATION, ["data_9"], limit=2)
        assert unresolved.id == "data_2"
        session = await sessions.get_session(ORGANISATION, "sesh_1")
        assert session is not None
        assert (session.reference_id, session.project_ids) == ("conversation-17", frozenset({"pr_1", "pr_2"}))
        (deletion,) = await deletions.list_pending(10)
        await deletions.mark_purged(deletion._replace(reopened_count=0))
        assert await deletions.list_hidden_project_ids(ORGANISATION) == ["pr_9"], "reopened meanwhile"
        await deletions.mark_purged(deletion)
        assert await deletions.list_hidden_project_ids(ORGANISATION) == []


async def test_search_is_literal_filtered_sorted_and_paged(started: LoggingClient) -> None:
    await started.accept(
        log("data_1", seconds=1, inputs={"q": 'Say "Ärger"\n(now)'}, source="sdk", model="gpt-4", environment="prod"),
        log("data_2", seconds=2, output="a.c $100", source="api", model="gpt-3.5", metadata={"run": "Night"}),
        log("data_3", seconds=3, output="abc", error="e", model="gpt-4"),
        log("data_4", seconds=4, project_id="pr_2", output="abc"),
    )

    async def found(**terms: Any) -> list[str]:
        answer = await started.bus.request(SearchLogs(principal=member(ORGANISATION), project_id="pr_1", **terms))
        assert answer.total == len(answer.logs)
        return [one.id.removeprefix("data_") for one in answer.logs]

    assert await found() == ["3", "2", "1"]
    assert await found(search='"ärger"\n(') == ["1"]
    assert await found(search="A.C") == ["2"]
    assert await found(search="$100") == ["2"]
    assert await found(search="c") == ["3", "2"]
    assert await found(metadata_search="night") == ["2"]
    assert await found(models=["gpt-4"]) == ["3", "1"]
    assert await found(models=["gpt-4", "gpt-3.5"], sources=["sdk", "api"]) == ["2", "1"]
    assert await found(environments=["prod"]) == ["1"]
    assert await found(start=START + timedelta(seconds=2), end=START + timedelta(seconds=3)) == ["2"]
    assert await found(sort=[Sort(column="timestamp")]) == ["1", "2", "3"]
    assert await found(sort=[Sort(column="model", descending=True)]) == ["3", "1", "2"]
    assert await found(sort=[Sort(column="source"), Sort(column="timestamp")]) == ["3", "2", "1"]
    paged = SearchLogs(principal=member(ORGANISATION), project_id="pr_1", page=Page(number=1, size=2))
    answer = await started.bus.request(paged)
    assert (answer.total, [one.id for one in answer.logs]) == (3, ["data_1"])


async def test_you_read_what_you_wrote_under_load_and_with_two_replicas(client: LoggingClient) -> None:
    """However slow the machine: on a busy one a read waits longer than it would for a user."""
    await asyncio.gather(*(client.start(EVERLOOP_READ_WAIT_SECONDS="60") for _ in range(2)))
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            await client.accept(*(log(ids.mint("data"), output="load" * 50) for _ in range(20)))

    async def write_and_read(reader: Bus, times: int) -> int:
        missed = 0
        for _ in range(times):
            log_id = ids.mint("data")
            await client.accept(log(log_id, output="before"))
            try:
                question = GetLog(principal=member(ORGANISATION), id=log_id)
                first = (await reader.request(question, timeout_seconds=70)).output
                await client.accept(update(log_id, output="after"))
                second = (await reader.request(question, timeout_seconds=70)).output
            except NotFound:
                missed += 1
            else:
                missed += (first, second) != ("before", "after")
        return missed

    async with client.stack.bus("gateway") as reader:
        busy = [asyncio.create_task(load()) for _ in range(2)]
        missed = await asyncio.gather(*(write_and_read(reader, 50) for _ in range(10)))
        stop.set()
        await asyncio.gather(*busy)
    assert sum(missed) == 0


async def _exactly_once(client: LoggingClient, accepted: list[str]) -> None:
    await client.until_stored(120)
    async with asyncio.timeout(30):
        while not await ping(client.database):  # noqa: ASYNC110 - a database that was killed may still recover
            await asyncio.sleep(0.1)
    logs = client.database["logs"]
    stored = [document["_id"].partition("/")[2] async for document in logs.find({}, {"_id": 1})]
    assert Counter(stored) == Counter(accepted)
    told = {one.id for event in await client.events() for one in LogsRecorded.model_validate_json(event.data).logs}
    assert told == set(accepted)


async def _backlog(client: LoggingClient, messages: int) -> list[str]:
    accepted = [ids.mint("data") for _ in range(messages * 50)]
    for start in range(0, len(accepted), 50):
        await client.accept(*(log(log_id, output="x" * 500) for log_id in accepted[start : start + 50]))
    return accepted


async def _until_some(client: LoggingClient, count: float) -> None:
    async with asyncio.timeout(60):
        while await client.database["logs"].estimated_document_count() < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_process_killed_in_the_middle_of_a_backlog_loses_and_doubles_nothing(client: LoggingClient) -> None:
    server = await client.start()
    server.stop()
    accepted = await _backlog(client, 400)
    for share in (0.05, 0.3, 0.6):
        server.start()
        await _until_some(client, share * len(accepted))
        server.kill()
    server.start()
    await until_ready(client.bus, "logging")
    await _exactly_once(client, accepted)


async def test_a_terminated_process_finishes_the_batch_it_is_storing(client: LoggingClient) -> None:
    server = await client.start()
    server.stop()
    accepted = await _backlog(client, 1000)
    server.start()
    await until_ready(client.bus, "logging")
    assert server.terminate() == 0
    async with client.stack.bus("logging") as bus:
        reached = await get_consumer_progress(bus, "LOGS", "logging")
    logs = client.database["logs"]
    assert await logs.count_documents({}) == reached.ack_floor * 50, "what was begun was finished"
    await client.start()
    await _exactly_once(client, accepted)


async def test_a_database_killed_during_intake_loses_nothing(client: LoggingClient) -> None:
    await client.start()
    filling = asyncio.create_task(_backlog(client, 300))
    for _ in range(2):
        await asyncio.sleep(0.7)
        client.stack.mongod.kill()
        await asyncio.sleep(0.5)
        with pytest.raises(Unavailable):
            await Bus.request(client.bus, GetLog(principal=member(ORGANISATION), id="data_1"), timeout_seconds=10)
        client.stack.mongod.start()
    await _exactly_once(client, await filling)


async def test_stored_messages_are_removed_from_the_stream(client: LoggingClient) -> None:
    await client.start(EVERLOOP_LOGS_TRIM_SECONDS="0.1")
    await client.accept(log("data_1", output="kept"))
    async with client.stack.bus("logging") as bus, asyncio.timeout(5):
        while (reached := await get_consumer_progress(bus, "LOGS", "logging")).first_sequence <= reached.last_sequence:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await client.output("data_1") == "kept"
    await client.accept(log("data_2", output="also"))
    assert await client.output("data_2") == "also"
