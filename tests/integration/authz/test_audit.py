"""The audit log: every change of access has one entry, whatever is killed, repeated or replayed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared import ids
from shared.audit import COLLECTION, audit_entry
from shared.bus import StreamSpec, ensure_stream
from shared.contracts.access.keys import CreateKey, RevokeKey
from shared.contracts.access.members import ChangeRole, RemoveMember
from shared.contracts.audit import AuditEntries, AuditEntry, AuditObject, AuditRecorded, ListAuditEntries
from shared.errors import Conflict, Denied, Unavailable
from tests.integration.authz.stack import Admin, Servers, authenticate, new_admin
from tests.integration.servers import Process, running, until_ready
from tests.principals import member

EVENTS = StreamSpec(name="EVENTS", subjects=("events.>",))


async def read(admin: Admin, **filters: Any) -> AuditEntries:
    return await admin.bus.request(ListAuditEntries(principal=admin.principal, **{"limit": 500} | filters))


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - it asks another process
            await asyncio.sleep(0.02)


async def entries_of(admin: Admin, count: int, **filters: Any) -> list[AuditEntry]:
    """Return the entries as soon as there are `count`, oldest first; no more come later."""

    async def are_there() -> bool:
        return len((await read(admin, **filters)).entries) >= count

    await until(are_there)
    await until(lambda: is_announced(admin))
    entries = (await read(admin, **filters)).entries
    assert len(entries) == count, [entry.action for entry in entries]
    return list(reversed(entries))


async def is_announced(admin: Admin) -> bool:
    """Return whether nothing waits in the outbox."""
    return await admin.servers.database(admin.prefix)[COLLECTION].count_documents({}) == 0


async def stored_ids(admin: Admin) -> list[str]:
    cursor = admin.servers.database(admin.prefix)["audit"].find({"organisation": admin.principal.organisation})
    return [document["_id"] async for document in cursor]


async def test_a_change_tells_who_did_what_to_whom_from_where(admin: Admin) -> None:
    colleague = await admin.colleague("Member")
    principal = admin.principal.model_copy(update={"address": "192.0.2.7"})
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    await admin.bus.request(ChangeRole(principal=principal, user_id=colleague, role="Developer"))
    (entry,) = await entries_of(admin, 1)
    assert entry.action == "member.role_changed"
    assert entry.object == AuditObject(kind="member", id=colleague, name=f"{colleague}@example.org")
    assert entry.details == {"from": "Member", "to": "Developer"}
    assert entry.actor == admin.principal.actor
    assert (entry.actor.key_id, entry.actor.email) == (admin.principal.key_id, admin.principal.email)
    assert entry.address == "192.0.2.7"
    assert before <= entry.at <= datetime.now(UTC)
    assert entry.trace is not None
    assert len(entry.trace) == 32


async def test_a_repeat_has_no_second_entry(admin: Admin) -> None:
    colleague = await admin.colleague("Member")
    create = CreateKey(principal=admin.principal, name="nightly")
    commands: list[Any] = [
        create,
        ChangeRole(principal=admin.principal, user_id=colleague, role="Developer"),
        RevokeKey(principal=admin.principal, id=create.id),
    ]
    for command in commands:
        for _ in range(2):
            await admin.bus.request(command)
            await until(lambda: is_announced(admin))
    await admin.bus.request(RemoveMember(principal=admin.principal, user_id=colleague))
    actions = [entry.action for entry in await entries_of(admin, 4)]
    assert actions == ["api_key.created", "member.role_changed", "api_key.revoked", "member.removed"]


async def test_what_is_refused_has_no_entry(admin: Admin) -> None:
    await admin.create("taken")
    with pytest.raises(Conflict):
        await admin.create("taken")
    with pytest.raises(Conflict):
        await admin.bus.request(
            ChangeRole(principal=admin.principal, user_id=admin.principal.user_id or "", role="Member")
        )
    assert [entry.object.name for entry in await entries_of(admin, 1)] == ["taken"]


async def test_removing_a_member_revokes_their_keys_in_one_change(admin: Admin) -> None:
    colleague = await admin.colleague("Developer")
    theirs = member(admin.principal.organisation, "Developer").model_copy(update={"user_id": colleague})
    key = await admin.create("theirs", by=theirs)
    await admin.bus.request(RemoveMember(principal=admin.principal, user_id=colleague))
    assert {one.id: one.revoked_at is not None for one in await admin.keys()}[key.id]
    entries = await entries_of(admin, 2)
    assert (entries[1].action, entries[1].details) == ("member.removed", {"role": "Developer"})


async def test_an_entry_has_no_secret(admin: Admin) -> None:
    key = await admin.create("canary")
    entries = await entries_of(admin, 1)
    text = entries[0].model_dump_json()
    assert key.secret not in text
    assert key.secret.removeprefix("hl_")[:12] not in text


async def test_a_replay_of_events_adds_and_changes_nothing(admin: Admin) -> None:
    await admin.create("first")
    (entry,) = await entries_of(admin, 1)
    forged = entry.model_copy(update={"action": "project.deleted", "address": "203.0.113.9"})
    for each in (entry, forged, entry):
        event = AuditRecorded(organisation=entry.organisation, entry=each)
        await admin.bus.publish_event(event, message_id=ids.mint("evt"))
    await admin.create("last")
    assert (await entries_of(admin, 2))[0] == entry


async def test_an_entry_of_another_organisation_than_its_event_goes_to_the_dead_letters(admin: Admin) -> None:
    await ensure_stream(admin.bus, StreamSpec(name="DEAD", subjects=("dead.>",)))
    entry = audit_entry("api_key.created", None, admin.principal.organisation, AuditObject(kind="api_key"))
    forged = AuditRecorded(organisation="tm_elsewhere", entry=entry)
    await admin.bus.publish_event(forged, message_id=ids.mint("evt"))
    await admin.bus.append("events.tm_1.audit.recorded", b'{"unreadable": 1}', message_id=ids.mint("evt"))
    await admin.create("last")
    assert [one.action for one in await entries_of(admin, 1)] == ["api_key.created"]
    assert entry.id not in await stored_ids(admin)
    jetstream = (await admin.bus.connected_client()).jetstream()
    letters = [await jetstream.get_msg("DEAD", number) for number in (1, 2)]
    assert [letter.subject for letter in letters] == ["dead.audit", "dead.audit"]
    assert b"tm_elsewhere" in (letters[0].data or b"")


async def test_pages_follow_one_another_and_filters_all_have_to_match(admin: Admin) -> None:
    colleague = await admin.colleague("Member")
    keys = [await admin.create(f"key {number}") for number in range(5)]
    await admin.bus.request(ChangeRole(principal=admin.principal, user_id=colleague, role="Developer"))
    await admin.bus.request(RevokeKey(principal=admin.principal, id=keys[0].id))
    entries = list(reversed(await entries_of(admin, 7)))
    found, page = [], await read(admin, limit=3)
    while True:
        found += page.entries
        if page.next is None:
            break
        page = await read(admin, limit=3, before=page.next)
    assert found == entries
    assert [len((await read(admin, **filters)).entries) for filters in (
        {"action": "api_key"}, {"action": "api_key.created"}, {"action": "member"}, {"action": "api"},
        {"object_kind": "api_key", "object_id": keys[0].id}, {"object_id": colleague}, {"object_kind": "project"},
        {"user_id": admin.principal.user_id}, {"email": admin.principal.email}, {"key_id": admin.principal.key_id},
        {"user_id": colleague}, {"key_id": "key_unknown"}, {"action": "api_key.revoked", "object_id": keys[0].id},
        {"start": entries[2].at, "end": entries[0].at}, {"end": entries[-1].at}, {"start": entries[0].at},
    )] == [6, 5, 1, 0, 2, 1, 0, 7, 7, 7, 0, 0, 1, *expected_in(entries)]  # fmt: skip


def expected_in(entries: list[AuditEntry]) -> list[int]:
    """Return how many entries are between the third and the first, before the last, and since the first."""
    first, third = entries[0].at, entries[2].at
    return [
        sum(third <= entry.at < first for entry in entries),
        0,
        sum(entry.at >= first for entry in entries),
    ]


async def test_only_admins_read_it_and_each_that_of_their_organisation(admin: Admin, running_authz: Servers) -> None:
    await admin.create("ours")
    await entries_of(admin, 1)
    for role in ("Member", "Developer"):
        user = await admin.colleague(role)
        other = admin.principal.model_copy(update={"user_id": user, "role": role})
        with pytest.raises(Denied):
            await admin.bus.request(ListAuditEntries(principal=other))
    demoted = await admin.colleague("Developer")
    with pytest.raises(Denied):  # the role that a gateway has cached is not enough
        await admin.bus.request(ListAuditEntries(principal=admin.principal.model_copy(update={"user_id": demoted})))
    stranger = await new_admin(running_authz)
    assert (await read(stranger)).entries == []
    assert (await read(stranger, email=admin.principal.email)).entries == []


async def organisation_on(servers: Servers, prefix: str, process: Process) -> Admin:
    """Return the first Admin of the organisation that a started process has made."""
    await until_ready(servers.bus, "authz")
    secret = process.environment and process.environment["BOOTSTRAP_SECRET"]
    assert secret
    return Admin(servers, prefix, secret, await authenticate(servers.bus, secret))


def authz_with_organisation(servers: Servers, prefix: str) -> Process:
    secret = "hl_" + ids.mint("k").removeprefix("k_") * 2
    return servers.authz(prefix, servers.bootstrap_file(api_key=secret), BOOTSTRAP_SECRET=secret)


async def test_an_entry_of_a_process_that_was_killed_before_it_announced_it_arrives_once(servers: Servers) -> None:
    prefix = ids.mint("p")[:12]
    process = authz_with_organisation(servers, prefix)
    jetstream = (await servers.bus.connected_client()).jetstream()
    with running(process):
        admin = await organisation_on(servers, prefix, process)
        await jetstream.delete_stream("EVENTS")
        command = CreateKey(principal=admin.principal, name="before the kill")
        creating = asyncio.create_task(servers.bus.request(command))
        outbox = servers.database(prefix)[COLLECTION]

        async def is_saved() -> bool:
            return await outbox.count_documents({}) == 1

        await until(is_saved)
        process.kill()
        with pytest.raises(Unavailable):
            await creating
        assert await servers.database(prefix)["keys"].count_documents({"_id": command.id}) == 1
        await ensure_stream(servers.bus, EVENTS)
    with running(process):
        await until_ready(servers.bus, "authz")
        (entry,) = await entries_of(admin, 1)
        assert entry.object.id == command.id
        await servers.bus.request(command)  # its caller got no answer and sends it again
        await until(lambda: is_announced(admin))
        await admin.create("after")
        assert [one.object.name for one in await entries_of(admin, 2)] == ["before the kill", "after"]


async def test_without_jetstream_a_change_is_made_with_its_entry_which_is_announced_later(servers: Servers) -> None:
    prefix = ids.mint("p")[:12]
    process = authz_with_organisation(servers, prefix)
    jetstream = (await servers.bus.connected_client()).jetstream()
    await jetstream.delete_stream("EVENTS")
    with running(process):  # it starts and answers without the stream
        admin = await organisation_on(servers, prefix, process)
        with pytest.raises(Unavailable):
            await servers.bus.request(CreateKey(principal=admin.principal, name="unheard"), timeout_seconds=8)
        assert {key.name for key in await admin.keys()} == {"First key", "unheard"}
        assert not await is_announced(admin)
        await ensure_stream(servers.bus, EVENTS)
        assert [entry.object.name for entry in await entries_of(admin, 1)] == ["unheard"]


async def test_of_changes_while_nats_dies_each_is_there_with_its_entry_or_not_at_all(servers: Servers) -> None:
    prefix = ids.mint("p")[:12]
    process = authz_with_organisation(servers, prefix)
    with running(process):
        admin = await organisation_on(servers, prefix, process)
        commands = [CreateKey(principal=admin.principal, name=f"key {number}") for number in range(40)]
        creating = [asyncio.create_task(servers.bus.request(command)) for command in commands]
        await asyncio.sleep(0.05)
        servers.nats.kill()
        results = await asyncio.gather(*creating, return_exceptions=True)
        servers.nats.start()
        await until_ready(servers.bus, "authz")
        await until(lambda: is_announced(admin))
        cursor = servers.database(prefix)["keys"].find({"name": {"$ne": "First key"}})
        saved = {document["_id"] async for document in cursor}
        entries = await entries_of(admin, len(saved))
        assert {entry.object.id for entry in entries} == saved
        confirmed = {command.id for command, result in zip(commands, results, strict=True) if not is_error(result)}
        assert confirmed <= saved


def is_error(result: object) -> bool:
    return isinstance(result, BaseException)


async def test_two_replicas_announce_and_store_each_entry_once(servers: Servers) -> None:
    prefix = ids.mint("p")[:12]
    one, other = authz_with_organisation(servers, prefix), servers.authz(prefix)
    with running(one):
        admin = await organisation_on(servers, prefix, one)
        ready = one.log.read_bytes().count(b'"ready"')
        with running(other):
            async with asyncio.timeout(20):
                while other.log.read_bytes().count(b'"ready"') == ready:  # noqa: ASYNC110 - the log is a file
                    await asyncio.sleep(0.05)

            async def create(number: int) -> None:
                await admin.create(f"key {number}")
                if number == 30:
                    one.kill()

            await asyncio.gather(*(create(number) for number in range(60)), return_exceptions=True)
            await until_ready(servers.bus, "authz")
            cursor = servers.database(prefix)["keys"].find({"name": {"$ne": "First key"}})
            saved = {document["_id"] async for document in cursor}
            entries = await entries_of(admin, len(saved))
            assert {entry.object.id for entry in entries} == saved
            assert len(saved) > 30
