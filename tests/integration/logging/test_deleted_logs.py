"""What `logging` does when logs are deleted: a real MongoDB, a real NATS, one process or two."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio
from nats.aio.msg import Msg
from pydantic import BaseModel

from services.logging.decoding import Entry
from services.logging.deps import Deps
from services.logging.session_resolution import LogKey, SessionAssignment
from services.logging.sessions import SessionRecord
from services.logging.store import LogDeletionStore, LogStore, SessionStore
from shared.appender import Appender
from shared.audit import audit_entry
from shared.bus import Bus
from shared.contracts.audit import AuditObject, AuditRecorded
from shared.contracts.logs import (
    LOGS_SUBJECT,
    Audited,
    FeedbackOfLogs,
    GetFeedback,
    GetLog,
    GetSession,
    GetSessionsOfLogs,
    GetUses,
    ListSessions,
    LogDeleted,
    LogsDeleted,
    Page,
    SearchLogs,
    Session,
    StoredLog,
)
from shared.contracts.message import Event
from shared.contracts.principal import Actor
from shared.errors import NotFound
from shared.mongo import Database
from tests.integration.logging.stack import LoggingStack, store_message
from tests.principals import member
from tests.unit.logging.builders import START, feedback, log, update

ORGANISATION = "tm_1"
ADA = Actor(user_id="usr_1", email="ada@example.org")
BOB = Actor(user_id="usr_2", email="bob@example.org")


def deletion(log_id: str, organisation: str = ORGANISATION, actor: Actor = ADA) -> LogDeleted:
    """Return the record of a deletion."""
    return LogDeleted(id=log_id, organisation=organisation, at=START, actor=actor)


class LoggingClient:
    """A client of two logging processes and their database."""

    def __init__(self, stack: LoggingStack, bus: Bus, database: Database) -> None:
        self.stack = stack
        self.bus = bus
        self.database = database
        self._appender = Appender(bus, LOGS_SUBJECT)

    async def accept(self, *records: BaseModel) -> None:
        """Append records to `LOGS` as the gateway does; those of one call are in one message."""
        await self._appender.append([record.model_dump_json().encode() for record in records])

    async def get(self, log_id: str, organisation: str = ORGANISATION) -> StoredLog:
        return await self.bus.request(GetLog(principal=member(organisation), id=log_id))

    async def is_gone(self, log_id: str) -> bool:
        with pytest.raises(NotFound):
            await self.get(log_id)
        document = await self.database["logs"].find_one({"_id": f"{ORGANISATION}/{log_id}"})
        return document is not None and set(document) == {"_id", "organisation", "deleted"}

    async def logs_of(self, project_id: str = "pr_1") -> list[str]:
        found = await self.bus.request(SearchLogs(principal=member(ORGANISATION), project_id=project_id))
        assert found.total == len(found.logs)
        return [one.id for one in found.logs]

    async def sessions_of(self, project_id: str = "pr_1") -> list[Session]:
        return (await self.bus.request(ListSessions(principal=member(ORGANISATION), project_id=project_id))).sessions

    async def feedback_of(self, *log_ids: str) -> FeedbackOfLogs:
        return await self.bus.request(GetFeedback(principal=member(ORGANISATION), log_ids=list(log_ids)))

    async def events(self, expected: int) -> list[LogsDeleted]:
        """Return the events of deleted logs, once there are `expected`."""
        return [LogsDeleted.model_validate_json(data) for data in await self.messages(LogsDeleted, expected)]

    async def messages(self, event: type[Event], expected: int) -> list[bytes]:
        """Return the events of a kind, once there are `expected`."""
        async with self.stack.bus("operator") as operator:
            jetstream = operator.client.jetstream()
            subscription = await jetstream.subscribe(event.wildcard_subject(), stream="EVENTS", ordered_consumer=True)
            messages: list[Msg] = [await subscription.next_msg(timeout=10) for _ in range(expected)]
            return [message.data for message in messages]


@pytest_asyncio.fixture(loop_scope="session")
async def client(servers: LoggingStack) -> AsyncIterator[LoggingClient]:
    async with servers.replicas() as (bus, database):
        yield LoggingClient(servers, bus, database)


async def test_a_deleted_log_is_not_read_any_more_and_others_are(client: LoggingClient) -> None:
    await client.accept(*(log(f"data_{number}", seconds=number, output="x") for number in range(4)))
    await client.accept(log("data_1", organisation="tm_2"), feedback("ann_1", log_id="data_1", value="good"))
    assert len(await client.logs_of()) == 4
    await client.accept(deletion("data_1"), deletion("data_2"))
    assert await client.logs_of() == ["data_3", "data_0"]
    assert await client.is_gone("data_1")
    assert await client.is_gone("data_2")
    assert (await client.get("data_1", "tm_2")).id == "data_1", "another organisation's log has the same id"
    uses = await client.bus.request(
        GetUses(principal=member(ORGANISATION), project_ids=["pr_1"], config_ids=["config_1"])
    )
    assert (uses.projects["pr_1"].logs, uses.configs["config_1"].logs) == (2, 2)
    known = await client.feedback_of("data_1", "data_2", "data_3", "data_9")
    assert ([one.log_id for one in known.logs], sorted(known.deleted_ids)) == (["data_3"], ["data_1", "data_2"])


async def test_nothing_that_comes_later_brings_it_back(client: LoggingClient) -> None:
    """The same record delivered again, a retry under its reference, an update, feedback: in any message."""
    await client.accept(log("data_1", output="first"))
    await client.accept(deletion("data_1"), update("data_1", output="in the same message"))
    assert await client.is_gone("data_1")
    await client.accept(log("data_1", output="first"), update("data_1", output="later", project_id="pr_1"))
    await client.accept(feedback("ann_1", log_id="data_1", value="good"), deletion("data_1"))
    assert await client.logs_of() == []
    assert await client.is_gone("data_1")


async def test_a_log_that_is_deleted_before_it_comes_is_not_kept(client: LoggingClient) -> None:
    await client.accept(feedback("ann_1", log_id="data_1", value="good"))
    await client.accept(deletion("data_1"))
    await client.accept(log("data_1", session_id="sesh_1"), log("data_2"))
    assert await client.logs_of() == ["data_2"]
    assert await client.is_gone("data_1")
    assert await client.sessions_of() == []


async def test_of_logs_deleted_while_they_come_none_is_left(client: LoggingClient) -> None:
    """Two replicas have logs and their deletions in hand at once."""
    ids = [f"data_{number}" for number in range(300)]

    async def write() -> None:
        for start in range(0, len(ids), 10):
            await client.accept(*(log(log_id, session_id=f"sesh_{start}") for log_id in ids[start : start + 10]))

    async def delete() -> None:
        for start in range(0, len(ids), 10):
            await client.accept(*(deletion(log_id) for log_id in ids[start : start + 10] if log_id != "data_7"))

    await asyncio.gather(write(), delete(), write())
    assert await client.logs_of() == ["data_7"]
    assert [session.id for session in await client.sessions_of()] == ["sesh_0"]


async def test_readers_of_events_are_told_which_logs_were_deleted_and_by_whom(client: LoggingClient) -> None:
    await client.accept(log("data_1"), log("data_2"), log("data_3", organisation="tm_2"), log("data_4"))
    assert len(await client.logs_of()) == 3, "stored before they are deleted"
    await client.accept(
        deletion("data_1"),
        deletion("data_4", actor=BOB),
        deletion("data_2"),
        deletion("data_unknown"),
        deletion("data_3", organisation="tm_2"),
    )
    events = {(event.organisation, event.actor): event.ids for event in await client.events(3)}
    assert events == {
        (ORGANISATION, ADA): ["data_1", "data_2"],
        (ORGANISATION, BOB): ["data_4"],
        ("tm_2", ADA): ["data_3"],
    }


async def test_who_deleted_logs_is_told_to_the_audit_log_once(client: LoggingClient) -> None:
    principal = member(ORGANISATION).model_copy(update={"address": "192.0.2.7"})
    entries = [
        audit_entry("logs.deleted", principal, ORGANISATION, AuditObject(kind="log"), details={"count": count})
        for count in (2, 1)
    ]
    await client.accept(log("data_1"), log("data_2"), log("data_3"))
    for _ in range(2):
        await client.accept(deletion("data_1"), deletion("data_2"), Audited(entry=entries[0]))
    await client.accept(deletion("data_3"), Audited(entry=entries[1]))
    assert await client.logs_of() == []
    events = [AuditRecorded.model_validate_json(data) for data in await client.messages(AuditRecorded, 2)]
    assert [event.entry for event in events] == entries
    assert [(event.id, event.occurred_at, event.actor) for event in events] == [
        (entry.id, entry.at, principal.actor) for entry in entries
    ]


async def test_a_session_loses_what_was_deleted(client: LoggingClient) -> None:
    await client.accept(
        log("data_1", session_id="sesh_1", inputs={"from": "first"}),
        log("data_2", session_id="sesh_1", inputs={"from": "second"}, output="2", seconds=1, parent_id="data_1"),
        log("data_3", session_id="sesh_1", project_id="pr_2", output="3", seconds=2),
        log("data_4", session_id="sesh_alone"),
    )
    assert len(await client.sessions_of()) == 2
    await client.accept(deletion("data_1"), deletion("data_4"))
    (session,) = await client.sessions_of()
    assert (session.id, session.datapoints_count, session.first_inputs) == ("sesh_1", 2, {"from": "second"})
    with pytest.raises(NotFound):
        await client.bus.request(GetSession(principal=member(ORGANISATION), id="sesh_alone"))
    await client.accept(deletion("data_3"))
    assert await client.sessions_of("pr_2") == []
    (session,) = await client.sessions_of()
    assert (session.project_ids, session.last_output) == (["pr_1"], "2")
    await client.accept(log("data_5", session_id="sesh_alone"), log("data_6", session_id="sesh_1", project_id="pr_2"))
    assert {one.id for one in await client.sessions_of()} == {"sesh_alone", "sesh_1"}
    assert [one.id for one in await client.sessions_of("pr_2")] == ["sesh_1"]


async def test_a_late_child_of_a_deleted_log_joins_its_session(client: LoggingClient) -> None:
    await client.accept(log("data_1", session_id="sesh_1"), log("data_2", session_id="sesh_1"))
    assert len(await client.logs_of()) == 2, "stored before it is deleted"
    await client.accept(deletion("data_1"))
    await client.accept(log("data_3", parent_id="data_1"))
    assert (await client.get("data_3")).session_id == "sesh_1"
    sessions = await client.bus.request(GetSessionsOfLogs(principal=member(ORGANISATION), log_ids=["data_1"]))
    assert sessions.sessions == {"data_1": "sesh_1"}


async def test_a_batch_that_is_stored_again_deletes_and_tells_the_same(servers: LoggingStack) -> None:
    with servers.database(f"t{secrets.token_hex(4)}") as database:
        logs, deletions = LogStore(database), LogDeletionStore(database)
        await logs.prepare()
        key = LogKey(ORGANISATION, "data_1")
        await logs.insert_logs(
            [Entry(1, log(session_id="sesh_1", output=f"everloop-blob:{'a' * 64}"))],
            {key: SessionAssignment("sesh_1")},
        )
        entries = [Entry(2, deletion("data_1")), Entry(3, deletion("data_unknown"))]
        first = await deletions.delete_logs(entries)
        assert [(one.key, one.project_id, one.session_id, one.blobs) for one in first] == [
            (key, "pr_1", "sesh_1", ["a" * 64])
        ]
        assert await deletions.delete_logs(entries) == first
        assert await deletions.delete_logs([Entry(4, deletion("data_1"))]) == [], "an earlier deletion had deleted it"
        result = await logs.insert_logs([Entry(1, log())], {key: SessionAssignment(None)})
        assert result.duplicates == {key}


async def test_a_replica_that_trusts_its_cache_does_not_lose_a_session(servers: LoggingStack) -> None:
    """One replica removes a session's last log of a project; another, which knows the session, stores one."""
    with servers.database(f"t{secrets.token_hex(4)}") as database:
        logs, deletions = LogStore(database), LogDeletionStore(database)
        await logs.prepare()
        mine, other = SessionStore(database), SessionStore(database)

        session = SessionRecord(ORGANISATION, "sesh_1", START, frozenset({"pr_1"}))

        async def store(log_id: str, replica: SessionStore, position: int) -> None:
            assignments = {LogKey(ORGANISATION, log_id): SessionAssignment("sesh_1")}
            await logs.insert_logs([Entry(position, log(log_id))], assignments)
            await replica.upsert_sessions([session])

        await store("data_1", mine, 1)
        await store("data_2", other, 2)
        await deletions.delete_logs([Entry(3, deletion("data_1")), Entry(4, deletion("data_2"))])
        await other.remove_from_sessions(ORGANISATION, {("sesh_1", "pr_1")}, deletions.list_sessions_with_logs)
        assert await mine.get_session(ORGANISATION, "sesh_1") is None
        await store("data_3", mine, 5)
        assert await mine.get_session(ORGANISATION, "sesh_1") is not None


async def test_a_log_deleted_before_its_session_is_stored_leaves_none(
    unpurged: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another replica deletes it in that moment, and finds no session to take it out of."""
    upsert = SessionStore.upsert_sessions

    async def delete_first(sessions: SessionStore, records: Iterable[SessionRecord]) -> None:
        monkeypatch.setattr(SessionStore, "upsert_sessions", upsert)
        await store_message(unpurged, 2, deletion("data_1"))
        await upsert(sessions, records)

    monkeypatch.setattr(SessionStore, "upsert_sessions", delete_first)
    await store_message(unpurged, 1, log("data_1", session_id="sesh_1"), log("data_2", session_id="sesh_2"))
    sessions, total = await unpurged.sessions.list_sessions(ORGANISATION, "pr_1", Page())
    assert ([one.id for one in sessions], total) == (["sesh_2"], 1)
