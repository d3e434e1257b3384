"""Feedback as `logging` keeps it: a real MongoDB, a real NATS, one process or two."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.msg import Msg
from pydantic import BaseModel

from services.logging.decoding import Entry
from services.logging.feedback_state import current, feedback_states
from services.logging.session_resolution import LogKey, SessionAssignment
from services.logging.store import LogStore
from shared.appender import Appender
from shared.bus import Bus
from shared.contracts.logs import LOGS_SUBJECT, Feedback, FeedbackGiven, GetFeedback, GetLog, LogRecord, SearchLogs
from shared.errors import NotFound
from tests.integration.logging_fixtures import Running, Stack
from tests.integration.servers import Process, until_ready
from tests.unit.logging.builders import START, given, log, update

ORGANISATION = "tm_1"
RATING = {"id": "ann_0", "type": "rating", "value": "good", "created_at": START}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers() -> AsyncIterator[Stack]:
    async with Running() as stack:
        yield stack


@dataclass
class World:
    """A stack with empty streams, an unused database, and a caller."""

    stack: Stack
    prefix: str
    bus: Bus
    appender: Appender

    async def start(self) -> Process:
        """A logging process."""
        server = self.stack.logging(self.prefix)
        server.start()
        await until_ready(self.bus, "logging")
        return server

    async def accept(self, *records: BaseModel) -> None:
        """What the gateway does; the records of one call travel together."""
        await self.appender.append([record.model_dump_json().encode() for record in records])

    async def feedback(self, log_id: str = "data_1") -> list[Feedback]:
        return (await self.bus.request(GetLog(organisation=ORGANISATION, id=log_id))).feedback

    async def values(self, log_id: str = "data_1") -> list[tuple[str, Any]]:
        return [(one.type, one.value) for one in await self.feedback(log_id)]

    async def dead(self) -> list[Msg]:
        """Everything in `DEAD`."""
        async with self.stack.bus("operator") as operator:
            jetstream = operator.client.jetstream()
            count = (await jetstream.stream_info("DEAD")).state.messages
            subscription = await jetstream.subscribe("", stream="DEAD", ordered_consumer=True)
            return [await subscription.next_msg(timeout=5) for _ in range(count)]


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Stack) -> AsyncIterator[World]:
    await servers.empty()
    async with servers.bus() as bus:
        yield World(servers, f"t{secrets.token_hex(4)}", bus, Appender(bus, LOGS_SUBJECT))
    servers.stop_logging()


@pytest_asyncio.fixture(loop_scope="session")
async def running(world: World) -> World:
    await world.start()
    return world


@pytest_asyncio.fixture(loop_scope="session")
async def store(servers: Stack) -> AsyncIterator[LogStore]:
    with servers.database(f"t{secrets.token_hex(4)}") as database:
        empty = LogStore(database)
        await empty.prepare()
        yield empty


def label(number: int, name: str, **fields: Any) -> FeedbackGiven:
    """A label of a multi-select."""
    return given(f"ann_{number}", type="action", value=name, labels=[name], **fields)


async def test_of_what_is_said_the_last_counts(running: World) -> None:
    await running.accept(log("data_1"))
    await running.accept(given("ann_1", value="good"))
    await running.accept(given("ann_2", value="bad", user="ada"), given("ann_3", type="mood", value=4, seconds=-1))
    await running.accept(given("ann_4", type="mood", value=4.5, seconds=-9))
    rating, mood = await running.feedback()
    assert (rating.id, rating.value, rating.user) == ("ann_2", "bad", "ada")
    assert (mood.id, mood.value) == ("ann_4", 4.5), "accepted later, whatever time its caller gave it"


async def test_a_label_is_added_and_taken_back_alone(running: World) -> None:
    await running.accept(log("data_1"), label(1, "copied"), label(2, "saved"), label(3, "copied", unset=True))
    assert await running.values() == [("action", "saved")]
    together = given("ann_4", type="action", value=["saved", "$sent"], labels=["saved", "$sent"])
    await running.accept(together)
    assert await running.values() == [("action", ["saved", "$sent"])]
    await running.accept(label(5, "$sent", unset=True), given("ann_6", value="good"))
    assert await running.values() == [("action", ["saved"]), ("rating", "good")]


async def test_what_came_with_the_log_is_replaced_and_taken_back(running: World) -> None:
    await running.accept(log("data_1", feedback=[RATING, RATING | {"id": "ann_9", "type": "comment", "value": "hm"}]))
    assert await running.values() == [("rating", "good"), ("comment", "hm")]
    await running.accept(given("ann_1", value="bad"), given("ann_2", type="comment", unset=True))
    assert await running.values() == [("rating", "bad")]


async def test_feedback_that_comes_before_its_log_waits_for_it(running: World) -> None:
    await running.accept(given("ann_1", value="bad"))
    with pytest.raises(NotFound):
        await running.feedback()
    asked = GetFeedback(organisation=ORGANISATION, log_ids=["data_1"], types=["rating"])
    assert (await running.bus.request(asked)).logs == []
    await running.accept(given("ann_2", value="good"), update("data_1", output="later"))
    await running.accept(log("data_1", output="first", feedback=[RATING | {"value": "worst"}]))
    stored = await running.bus.request(GetLog(organisation=ORGANISATION, id="data_1"))
    assert (stored.output, [one.value for one in stored.feedback]) == ("later", ["good"])
    assert stored.updated_at == update().at
    listed = await running.bus.request(SearchLogs(organisation=ORGANISATION, project_id="pr_1"))
    assert [one.id for one in listed.logs] == ["data_1"]
    (told,) = (await running.bus.request(asked)).logs
    assert (told.log_id, told.project_id, [one.id for one in told.feedback]) == ("data_1", "pr_1", ["ann_2"])


async def test_only_what_is_asked_for_is_told(running: World) -> None:
    await running.accept(log("data_1"), log("data_2"), given("ann_1", value="bad"), label(2, "copied"))
    asked = GetFeedback(organisation=ORGANISATION, log_ids=["data_1", "data_3"], types=["action"])
    (told,) = (await running.bus.request(asked)).logs
    assert [one.value for one in told.feedback] == ["copied"]
    (told,) = (await running.bus.request(asked.model_copy(update={"types": []}))).logs
    assert told.feedback == []
    assert (await running.bus.request(asked.model_copy(update={"organisation": "tm_2"}))).logs == []


async def test_an_organisation_says_nothing_about_the_logs_of_another(running: World) -> None:
    await running.accept(log("data_1"), given("ann_1", value="bad", organisation="tm_2"))
    assert await running.values() == []


async def test_the_same_again_is_no_second_feedback(running: World) -> None:
    first, label_first = given("ann_1", value="good"), label(2, "copied")
    await running.accept(log("data_1"), first, label_first)
    await running.accept(first.model_copy(update={"value": "changed"}), label_first)
    assert await running.values() == [("rating", "good"), ("action", "copied")]


async def test_in_whatever_order_and_how_often_it_is_stored_the_same_counts(store: LogStore) -> None:
    chance = random.Random(7)  # noqa: S311 - the same every time
    for round_ in range(30):
        log_id, entries = f"data_{round_}", []
        for place in range(1, 13):
            kind, unset = chance.choice(["rating", "action"]), chance.random() < 0.3
            names: list[str] = chance.sample(["a", "b", "c"], chance.randint(1, 2)) if kind == "action" else []
            value: Any = names or chance.choice(["good", "bad", 3])
            record = given(f"ann_{place}", log_id=log_id, type=kind, value=value, labels=names, unset=unset)
            entries.append(Entry(place, record))
        the_log = Entry(20, log(log_id))
        shuffled = chance.sample(entries, len(entries)) + chance.choices(entries, k=6)
        for number, entry in enumerate(shuffled):
            await store.store_feedback([entry])
            if number == 5:
                await store.add([the_log], {LogKey(ORGANISATION, log_id): SessionAssignment(None)})
        stored = await store.get(ORGANISATION, log_id)
        assert stored is not None
        assert stored.feedback == current([], (state for entry in entries for state in feedback_states(entry)))


async def test_what_was_replaced_takes_no_room(running: World, servers: Stack) -> None:
    texts = [given(f"ann_{number}", type="comment", value="x" * 90_000) for number in range(200)]
    for start in range(0, 200, 50):
        await running.accept(*texts[start : start + 50])
    await running.accept(log("data_1"))
    (comment,) = await running.feedback()
    assert comment.id == "ann_199"
    with servers.database(running.prefix) as database:
        document = await database["logs"].find_one({"_id": "tm_1/data_1"})
    assert document is not None
    assert len(document["said"]) == 1


async def test_feedback_too_large_for_the_database_goes_to_dead_alone(running: World, servers: Stack) -> None:
    await running.accept(log("data_1"), log("data_2"))
    for number in range(3):
        await running.accept(given(f"ann_{number}", type=f"t{number}", value="x" * 6_000_000))
    await running.accept(given("ann_9", log_id="data_2", value="good"))
    assert await running.values("data_2") == [("rating", "good")]
    with servers.database(running.prefix) as database:
        document = await database["logs"].find_one({"_id": "tm_1/data_1"})
    assert document is not None
    assert sorted(state["type"] for state in document["said"].values()) == ["t0", "t1"]
    (dead,) = await running.dead()
    assert b'"ann_2"' in dead.data
    assert dead.headers is not None
    assert "size" in dead.headers["Everloop-Reason"].lower()


async def test_two_replicas_lose_nothing_of_what_is_said_at_once(running: World) -> None:
    await running.start()
    records: list[LogRecord | FeedbackGiven] = [label(number, f"l{number}") for number in range(300)]
    records.insert(150, log("data_1"))
    appenders = [Appender(running.bus, LOGS_SUBJECT) for _ in records]  # each sends a message of its own
    await asyncio.gather(
        *(appender.append([one.model_dump_json().encode()]) for appender, one in zip(appenders, records, strict=True))
    )
    assert sorted(value for _, value in await running.values()) == sorted(f"l{number}" for number in range(300))


async def test_a_process_killed_in_the_middle_loses_and_doubles_nothing(world: World) -> None:
    server = await world.start()
    for start in range(0, 4000, 500):
        logs = [log(f"data_{number}") for number in range(start, start + 500)]
        states = [label(1, "copied"), given("ann_2", value="good"), given("ann_3", value="bad")]
        await world.accept(*logs, *(one.model_copy(update={"log_id": it.id}) for it in logs for one in states))
    with world.stack.database(world.prefix) as database:
        while await database["logs"].count_documents({"said": {"$exists": True}}) < 100:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        server.kill()
        stored = await database["logs"].count_documents({"said": {"$exists": True}})
        assert stored < 4000, "killed too late to prove anything"
        await world.start()
        await world.feedback("data_3999")
        expected = [("action", "copied"), ("rating", "bad")]
        for number in range(0, 4000, 37):
            assert await world.values(f"data_{number}") == expected
        assert {len(it["said"]) async for it in database["logs"].find({}, {"said": 1})} == {2}


async def test_while_storing_is_behind_what_is_missing_may_be_there(world: World) -> None:
    await world.start()
    asked = GetFeedback(organisation=ORGANISATION, log_ids=["data_1"])
    assert (await world.bus.request(asked)).complete
    async with world.stack.bus("operator") as operator:
        until = b'{"pause_until": "2999-01-01T00:00:00Z"}'
        await operator.client.request("$JS.API.CONSUMER.PAUSE.LOGS.logging", until, timeout=5)
        await world.accept(log("data_1"))
        told = await world.bus.request(asked)
    assert (told.logs, told.complete) == ([], False)
