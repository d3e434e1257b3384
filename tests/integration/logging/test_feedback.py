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
from services.logging.feedback_state import effective_feedback, feedback_states
from services.logging.session_resolution import LogKey, SessionAssignment
from services.logging.store import LogStore
from shared.appender import Appender
from shared.bus import Bus
from shared.contracts.logs import LOGS_SUBJECT, Feedback, FeedbackGiven, GetFeedback, GetLog, LogRecord, SearchLogs
from shared.errors import NotFound
from tests.integration.logging.stack import LoggingStack
from tests.integration.servers import Process, until_ready
from tests.principals import member
from tests.unit.logging.builders import START, feedback, log, update

ORGANISATION = "tm_1"
RATING = {"id": "ann_0", "type": "rating", "value": "good", "created_at": START}


@dataclass
class LoggingClient:
    """A client of logging processes on a stack with empty streams and an unused database."""

    stack: LoggingStack
    prefix: str
    bus: Bus
    appender: Appender

    async def start(self) -> Process:
        """Start a logging process and wait until it answers."""
        server = self.stack.logging(self.prefix)
        server.start()
        await until_ready(self.bus, "logging")
        return server

    async def accept(self, *records: BaseModel) -> None:
        """Append records to `LOGS` as the gateway does; those of one call are in one message."""
        await self.appender.append([record.model_dump_json().encode() for record in records])

    async def feedback(self, log_id: str = "data_1") -> list[Feedback]:
        return (await self.bus.request(GetLog(principal=member(ORGANISATION), id=log_id))).feedback

    async def values(self, log_id: str = "data_1") -> list[tuple[str, Any]]:
        return [(one.type, one.value) for one in await self.feedback(log_id)]

    async def dead(self) -> list[Msg]:
        """Return every message of `DEAD`."""
        async with self.stack.bus("operator") as operator:
            jetstream = operator.client.jetstream()
            count = (await jetstream.stream_info("DEAD")).state.messages
            subscription = await jetstream.subscribe("", stream="DEAD", ordered_consumer=True)
            return [await subscription.next_msg(timeout=5) for _ in range(count)]


@pytest_asyncio.fixture(loop_scope="session")
async def client(servers: LoggingStack) -> AsyncIterator[LoggingClient]:
    await servers.delete_streams()
    async with servers.bus() as bus:
        yield LoggingClient(servers, f"t{secrets.token_hex(4)}", bus, Appender(bus, LOGS_SUBJECT))
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


def label(number: int, name: str, **fields: Any) -> FeedbackGiven:
    """Return feedback that gives one label of the multi-select type `action`."""
    return feedback(f"ann_{number}", type="action", value=name, labels=[name], **fields)


async def test_the_feedback_accepted_last_is_in_effect(started: LoggingClient) -> None:
    await started.accept(log("data_1"))
    await started.accept(feedback("ann_1", value="good"))
    await started.accept(
        feedback("ann_2", value="bad", user="ada"), feedback("ann_3", type="mood", value=4, seconds=-1)
    )
    await started.accept(feedback("ann_4", type="mood", value=4.5, seconds=-9))
    rating, mood = await started.feedback()
    assert (rating.id, rating.value, rating.user) == ("ann_2", "bad", "ada")
    assert (mood.id, mood.value) == ("ann_4", 4.5), "accepted later, whatever time its caller gave it"


async def test_a_label_is_added_and_unset_alone(started: LoggingClient) -> None:
    await started.accept(log("data_1"), label(1, "copied"), label(2, "saved"), label(3, "copied", unset=True))
    assert await started.values() == [("action", "saved")]
    together = feedback("ann_4", type="action", value=["saved", "$sent"], labels=["saved", "$sent"])
    await started.accept(together)
    assert await started.values() == [("action", ["saved", "$sent"])]
    await started.accept(label(5, "$sent", unset=True), feedback("ann_6", value="good"))
    assert await started.values() == [("action", ["saved"]), ("rating", "good")]


async def test_feedback_given_with_the_log_can_be_replaced_and_unset(started: LoggingClient) -> None:
    await started.accept(log("data_1", feedback=[RATING, RATING | {"id": "ann_9", "type": "comment", "value": "hm"}]))
    assert await started.values() == [("rating", "good"), ("comment", "hm")]
    await started.accept(feedback("ann_1", value="bad"), feedback("ann_2", type="comment", unset=True))
    assert await started.values() == [("rating", "bad")]


async def test_feedback_that_comes_before_its_log_waits_for_it(started: LoggingClient) -> None:
    await started.accept(feedback("ann_1", value="bad"))
    with pytest.raises(NotFound):
        await started.feedback()
    asked = GetFeedback(principal=member(ORGANISATION), log_ids=["data_1"], types=["rating"])
    assert (await started.bus.request(asked)).logs == []
    await started.accept(feedback("ann_2", value="good"), update("data_1", output="later"))
    await started.accept(log("data_1", output="first", feedback=[RATING | {"value": "worst"}]))
    stored = await started.bus.request(GetLog(principal=member(ORGANISATION), id="data_1"))
    assert (stored.output, [one.value for one in stored.feedback]) == ("later", ["good"])
    assert stored.updated_at == update().at
    page = await started.bus.request(SearchLogs(principal=member(ORGANISATION), project_id="pr_1"))
    assert [one.id for one in page.logs] == ["data_1"]
    (shown,) = (await started.bus.request(asked)).logs
    assert (shown.log_id, shown.project_id, [one.id for one in shown.feedback]) == ("data_1", "pr_1", ["ann_2"])


async def test_only_feedback_of_the_logs_and_types_asked_for_is_returned(started: LoggingClient) -> None:
    await started.accept(log("data_1"), log("data_2"), feedback("ann_1", value="bad"), label(2, "copied"))
    asked = GetFeedback(principal=member(ORGANISATION), log_ids=["data_1", "data_3"], types=["action"])
    (shown,) = (await started.bus.request(asked)).logs
    assert [one.value for one in shown.feedback] == ["copied"]
    (shown,) = (await started.bus.request(asked.model_copy(update={"types": []}))).logs
    assert shown.feedback == []
    assert (
        await started.bus.request(asked.model_copy(update={"organisation": "tm_2", "principal": member("tm_2")}))
    ).logs == []


async def test_feedback_of_one_organisation_does_not_reach_a_log_of_another(started: LoggingClient) -> None:
    await started.accept(log("data_1"), feedback("ann_1", value="bad", organisation="tm_2"))
    assert await started.values() == []


async def test_feedback_accepted_twice_is_one_feedback(started: LoggingClient) -> None:
    first, label_first = feedback("ann_1", value="good"), label(2, "copied")
    await started.accept(log("data_1"), first, label_first)
    await started.accept(first.model_copy(update={"value": "changed"}), label_first)
    assert await started.values() == [("rating", "good"), ("action", "copied")]


async def test_order_and_repetition_of_storing_do_not_change_the_feedback_in_effect(store: LogStore) -> None:
    chance = random.Random(7)  # noqa: S311 - the same every time
    for round_ in range(30):
        log_id, entries = f"data_{round_}", []
        for position in range(1, 13):
            kind, unset = chance.choice(["rating", "action"]), chance.random() < 0.3
            labels = chance.sample(["a", "b", "c"], chance.randint(1, 2)) if kind == "action" else []
            value: Any = labels or chance.choice(["good", "bad", 3])
            record = feedback(f"ann_{position}", log_id=log_id, type=kind, value=value, labels=labels, unset=unset)
            entries.append(Entry(position, record))
        recorded = Entry(20, log(log_id))
        shuffled = chance.sample(entries, len(entries)) + chance.choices(entries, k=6)
        for number, entry in enumerate(shuffled):
            await store.upsert_feedback([entry])
            if number == 5:
                await store.insert_logs([recorded], {LogKey(ORGANISATION, log_id): SessionAssignment(None)})
        stored = await store.get_log(ORGANISATION, log_id)
        assert stored is not None
        assert stored.feedback == effective_feedback(
            [], (state for entry in entries for state in feedback_states(entry))
        )


async def test_replaced_feedback_takes_no_room_in_the_document(started: LoggingClient, servers: LoggingStack) -> None:
    texts = [feedback(f"ann_{number}", type="comment", value="x" * 90_000) for number in range(200)]
    for start in range(0, 200, 50):
        await started.accept(*texts[start : start + 50])
    await started.accept(log("data_1"))
    (comment,) = await started.feedback()
    assert comment.id == "ann_199"
    with servers.database(started.prefix) as database:
        document = await database["logs"].find_one({"_id": "tm_1/data_1"})
    assert document is not None
    assert len(document["said"]) == 1


async def test_feedback_too_large_for_the_database_goes_to_dead_alone(
    started: LoggingClient, servers: LoggingStack
) -> None:
    await started.accept(log("data_1"), log("data_2"))
    for number in range(3):
        await started.accept(feedback(f"ann_{number}", type=f"t{number}", value="x" * 6_000_000))
    await started.accept(feedback("ann_9", log_id="data_2", value="good"))
    assert await started.values("data_2") == [("rating", "good")]
    with servers.database(started.prefix) as database:
        document = await database["logs"].find_one({"_id": "tm_1/data_1"})
    assert document is not None
    assert sorted(state["type"] for state in document["said"].values()) == ["t0", "t1"]
    (dead,) = await started.dead()
    assert b'"ann_2"' in dead.data
    assert dead.headers is not None
    assert "size" in dead.headers["Everloop-Reason"].lower()


async def test_two_replicas_storing_feedback_at_once_lose_none(started: LoggingClient) -> None:
    await started.start()
    records: list[LogRecord | FeedbackGiven] = [label(number, f"l{number}") for number in range(300)]
    records.insert(150, log("data_1"))
    appenders = [Appender(started.bus, LOGS_SUBJECT) for _ in records]  # each sends a message of its own
    await asyncio.gather(
        *(appender.append([one.model_dump_json().encode()]) for appender, one in zip(appenders, records, strict=True))
    )
    assert sorted(value for _, value in await started.values()) == sorted(f"l{number}" for number in range(300))


async def test_a_process_killed_in_the_middle_loses_and_doubles_nothing(client: LoggingClient) -> None:
    server = await client.start()
    for start in range(0, 4000, 500):
        logs = [log(f"data_{number}") for number in range(start, start + 500)]
        states = [label(1, "copied"), feedback("ann_2", value="good"), feedback("ann_3", value="bad")]
        await client.accept(*logs, *(one.model_copy(update={"log_id": it.id}) for it in logs for one in states))
    with client.stack.database(client.prefix) as database:
        while await database["logs"].count_documents({"said": {"$exists": True}}) < 100:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        server.kill()
        stored = await database["logs"].count_documents({"said": {"$exists": True}})
        assert stored < 4000, "killed too late to prove anything"
        await client.start()
        await client.feedback("data_3999")
        expected = [("action", "copied"), ("rating", "bad")]
        for number in range(0, 4000, 37):
            assert await client.values(f"data_{number}") == expected
        assert {len(it["said"]) async for it in database["logs"].find({}, {"said": 1})} == {2}


async def test_an_answer_given_while_storing_is_behind_is_marked_incomplete(client: LoggingClient) -> None:
    await client.start()
    asked = GetFeedback(principal=member(ORGANISATION), log_ids=["data_1"])
    assert (await client.bus.request(asked)).complete
    async with client.stack.bus("operator") as operator:
        until = b'{"pause_until": "2999-01-01T00:00:00Z"}'
        await operator.client.request("$JS.API.CONSUMER.PAUSE.LOGS.logging", until, timeout=5)
        await client.accept(log("data_1"))
        shown = await client.bus.request(asked)
    assert (shown.logs, shown.complete) == ([], False)


async def test_types_asked_for_are_not_compared_one_by_one(store: LogStore) -> None:
    """Thousands of types may be asked for of thousands of logs in one call."""

    class Types(list[str]):
        def __contains__(self, item: object) -> bool:
            raise AssertionError(f"{item!r} is looked for from the beginning to the end")

    await store.insert_logs(
        [Entry(1, log(feedback=[RATING]))], {LogKey(ORGANISATION, "data_1"): SessionAssignment(None)}
    )
    (found,) = await store.list_feedback(ORGANISATION, ["data_1"], Types(["mood", "rating"]))
    assert [one.id for one in found.feedback] == ["ann_0"]
