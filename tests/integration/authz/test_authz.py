"""The authz service as a process, on a real MongoDB and a real NATS."""

import asyncio
import json
import time
from typing import Any

import pytest
from nats.aio.msg import Msg

from shared import ids
from shared.contracts.access.authentication import AccessChanged
from shared.contracts.access.keys import CreateKey, ListKeys, RevokeKey
from shared.contracts.access.members import ChangeRole, ListMembers
from shared.contracts.message import Request
from shared.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from tests.integration.authz.stack import Admin, Servers, authenticate
from tests.integration.servers import running, until_ready
from tests.principals import member

SECOND_KEY = "hl_" + "s" * 48


async def test_the_first_start_creates_the_organisation_of_the_file(servers: Servers) -> None:
    prefix, file = ids.mint("p")[:12], servers.bootstrap_file()
    with running(servers.authz(prefix, file)):
        await until_ready(servers.bus, "authz")
        caller = await authenticate(servers.bus, json.loads(file.read_text())["api_key"])
    assert caller.organisation.startswith("tm_")
    assert (caller.user_id or "").startswith("usr_")
    assert (caller.role, caller.email) == ("Admin", "ada@example.org")
    user = await servers.database(prefix)["users"].find_one({})
    assert user is not None
    assert user["password_hash"].startswith("$argon2id$")


async def test_a_key_is_nowhere_stored_in_clear(admin: Admin) -> None:
    new = await admin.create("nightly")
    database = admin.servers.database(admin.prefix)
    for name in await database.list_collection_names():
        async for document in database[name].find({}):
            assert new.secret not in str(document)
            assert admin.secret not in str(document)
    assert new.secret.endswith(new.tail)
    assert len(new.secret) == 51


async def test_unknown_and_revoked_keys_are_refused_in_the_same_words(admin: Admin) -> None:
    new = await admin.create("short-lived")
    assert (await authenticate(admin.bus, new.secret)).key_id == new.id
    await admin.bus.request(RevokeKey(principal=admin.principal, id=new.id))
    with pytest.raises(Unauthenticated) as revoked:
        await authenticate(admin.bus, new.secret)
    with pytest.raises(Unauthenticated) as unknown:
        await authenticate(admin.bus, "hl_" + "x" * 48)
    assert revoked.value.message == unknown.value.message == "The API key is missing, wrong or revoked."


async def test_revoking_twice_keeps_the_first_time_of_revocation(admin: Admin) -> None:
    new = await admin.create("once")
    command = RevokeKey(principal=admin.principal, id=new.id)
    await admin.bus.request(command)
    first = next(key for key in await admin.keys() if key.id == new.id).revoked_at
    await admin.bus.request(command)
    assert next(key for key in await admin.keys() if key.id == new.id).revoked_at == first is not None


async def test_keys_are_listed_with_their_tail_creator_and_time(admin: Admin) -> None:
    new = await admin.create("ci", "Member")
    newest, first = await admin.keys()
    assert (newest.name, newest.tail, newest.role, newest.creator) == ("ci", new.tail, "Member", admin.principal.email)
    assert newest.revoked_at is None
    assert newest.created_at > first.created_at
    assert new.secret not in newest.model_dump_json()


async def test_members_are_listed_with_their_roles(admin: Admin) -> None:
    colleague = await admin.colleague("Member")
    await admin.servers.database(admin.prefix)["users"].update_one({"_id": colleague}, {"$set": {"full_name": "Grace"}})
    found = (await admin.bus.request(ListMembers(principal=member(admin.principal.organisation)))).members
    assert {(one.user_id, one.role, one.full_name) for one in found} == {
        (admin.principal.user_id, "Admin", None),
        (colleague, "Member", "Grace"),
    }
    assert [one.email for one in found] == sorted(one.email for one in found)


async def test_a_key_never_has_more_than_its_creators_key(admin: Admin) -> None:
    developer = await authenticate(admin.bus, (await admin.create("developer")).secret)
    assert developer.role == "Developer", "the default"
    wanted_more = await admin.create("more", "Admin", by=developer)
    assert wanted_more.role == "Developer"
    assert (await authenticate(admin.bus, wanted_more.secret)).role == "Developer"


async def test_a_name_in_use_is_refused_and_free_again_after_revocation(admin: Admin) -> None:
    new = await admin.create("deploy")
    with pytest.raises(Conflict):
        await admin.create(" deploy ")
    await admin.bus.request(RevokeKey(principal=admin.principal, id=new.id))
    assert (await admin.create("deploy")).id != new.id


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
async def test_a_key_needs_a_name(admin: Admin, name: str) -> None:
    with pytest.raises(Invalid):
        await admin.create(name)


async def test_creating_the_same_key_again_gives_it_a_new_secret(admin: Admin) -> None:
    key_id = ids.mint("key")
    first = await admin.create("answer got lost", id=key_id)
    second = await admin.create("answer got lost", id=key_id)
    assert [key.id for key in await admin.keys()].count(key_id) == 1
    assert (await authenticate(admin.bus, second.secret)).key_id == key_id
    with pytest.raises(Unauthenticated):
        await authenticate(admin.bus, first.secret)


async def test_members_can_neither_create_nor_list_nor_revoke_keys(admin: Admin) -> None:
    member = await authenticate(admin.bus, (await admin.create("member", "Member")).secret)
    requests: list[Request[Any]] = [
        CreateKey(principal=member, name="mine"),
        ListKeys(principal=member),
        RevokeKey(principal=member, id=admin.principal.key_id),
        ChangeRole(principal=member, user_id=member.user_id, role="Admin"),
    ]
    for refused in requests:
        with pytest.raises(Denied, match="Your role Member may not"):
            await admin.bus.request(refused)
    assert len(await admin.keys()) == 2


async def test_nobody_reaches_into_another_organisation(admin: Admin) -> None:
    stranger = admin.principal.model_copy(update={"organisation": ids.mint("tm"), "user_id": ids.mint("usr")})
    requests: list[Request[Any]] = [
        ListKeys(principal=stranger),
        RevokeKey(principal=stranger, id=admin.principal.key_id),
    ]
    for refused in requests:
        with pytest.raises((Denied, NotFound)):
            await admin.bus.request(refused)
    assert (await authenticate(admin.bus, admin.secret)).role == "Admin"


async def test_an_unknown_key_cannot_be_revoked(admin: Admin) -> None:
    with pytest.raises(NotFound):
        await admin.bus.request(RevokeKey(principal=admin.principal, id=ids.mint("key")))


async def test_a_lower_role_lowers_the_keys_of_that_member_at_once(admin: Admin) -> None:
    await admin.colleague("Admin")
    assert (await authenticate(admin.bus, admin.secret)).role == "Admin"
    change = ChangeRole(principal=admin.principal, user_id=admin.principal.user_id, role="Member")
    member = await admin.bus.request(change)
    assert (member.role, member.email) == ("Member", admin.principal.email)
    assert (await authenticate(admin.bus, admin.secret)).role == "Member"
    with pytest.raises(Denied):
        await admin.create("too late")  # the caller as it was known before


async def test_one_admin_stays_however_many_leave_at_once(admin: Admin) -> None:
    for _ in range(3):
        await admin.colleague("Admin")
    database = admin.servers.database(admin.prefix)
    organisation = await database["organisations"].find_one({"_id": admin.principal.organisation})
    assert organisation is not None
    admins = [admin.principal.model_copy(update={"user_id": member["user_id"]}) for member in organisation["members"]]
    results = await asyncio.gather(
        *(admin.bus.request(ChangeRole(principal=by, user_id=by.user_id, role="Developer")) for by in admins),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Conflict) for result in results) == 1
    left = await database["organisations"].find_one({"_id": admin.principal.organisation})
    assert left is not None
    assert [member["role"] for member in left["members"]].count("Admin") == 1


async def test_changes_of_keys_are_published(admin: Admin) -> None:
    events: list[AccessChanged] = []

    async def changed(message: Msg) -> None:
        events.append(AccessChanged.model_validate_json(message.data))

    subscription = await admin.bus.client.subscribe(AccessChanged.wildcard_subject(), cb=changed)
    await admin.bus.client.flush()
    new = await admin.create("loud")
    await admin.bus.request(RevokeKey(principal=admin.principal, id=new.id))
    await asyncio.sleep(0.05)
    await subscription.unsubscribe()
    assert [event.what for event in events] == ["key created", "key revoked"]
    assert {event.organisation for event in events} == {admin.principal.organisation}


async def test_replicas_that_start_at_once_make_one_organisation(servers: Servers) -> None:
    prefix, file = ids.mint("p")[:12], servers.bootstrap_file()
    with (
        running(servers.authz(prefix, file)),
        running(servers.authz(prefix, file)),
        running(servers.authz(prefix, file)),
    ):
        database = servers.database(prefix)
        await until_ready(servers.bus, "authz")
        for _ in range(50):  # the slower ones
            await asyncio.sleep(0.05)
            assert await database["organisations"].count_documents({}) == 1
        for name in ("organisations", "users", "keys"):
            assert await database[name].count_documents({}) == 1, name
        key, organisation = await database["keys"].find_one({}), await database["organisations"].find_one({})
        assert key is not None
        assert organisation is not None
        assert key["created_at"] == organisation["members"][0]["joined_at"] == organisation["created_at"]
        assert (await authenticate(servers.bus, json.loads(file.read_text())["api_key"])).role == "Admin"


@pytest.mark.parametrize("missing", [["organisations"], ["organisations", "keys"], ["organisations", "keys", "users"]])
async def test_a_first_start_that_was_killed_is_finished_by_the_next(servers: Servers, missing: list[str]) -> None:
    prefix, file = ids.mint("p")[:12], servers.bootstrap_file()
    secret = json.loads(file.read_text())["api_key"]
    database = servers.database(prefix)
    with running(servers.authz(prefix, file)):
        await until_ready(servers.bus, "authz")
        before = await authenticate(servers.bus, secret)
    for name in missing:  # what the first start had not written yet
        await database[name].delete_many({})
    with running(servers.authz(prefix, file)):
        await until_ready(servers.bus, "authz")
        assert await authenticate(servers.bus, secret) == before
    for name in ("organisations", "users", "keys"):
        assert await database[name].count_documents({}) == 1, name


async def test_a_changed_file_changes_nothing_and_is_reported(servers: Servers) -> None:
    prefix, file = ids.mint("p")[:12], servers.bootstrap_file()
    with running(servers.authz(prefix, file)):
        await until_ready(servers.bus, "authz")
    again = servers.authz(prefix, servers.bootstrap_file(api_key=SECOND_KEY))
    with running(again):
        await until_ready(servers.bus, "authz")
        with pytest.raises(Unauthenticated):
            await authenticate(servers.bus, SECOND_KEY)
        assert await servers.database(prefix)["organisations"].count_documents({}) == 1
    lines = again.log.read_text()
    assert "opens nothing" in lines
    assert SECOND_KEY not in lines


async def test_replicas_drop_cached_callers_that_another_replica_changed(admin: Admin) -> None:
    with running(admin.servers.authz(admin.prefix)):
        await asyncio.sleep(1.5)
        new = await admin.create("shared")
        await asyncio.gather(*(authenticate(admin.bus, new.secret) for _ in range(50)))  # both replicas know it now
        await admin.bus.request(RevokeKey(principal=admin.principal, id=new.id))
        await asyncio.sleep(0.1)
        answers = await asyncio.gather(
            *(authenticate(admin.bus, new.secret) for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(answer, Unauthenticated) for answer in answers)


async def test_known_callers_are_known_while_the_database_is_away(servers: Servers) -> None:
    prefix, file = ids.mint("p")[:12], servers.bootstrap_file()
    secret = json.loads(file.read_text())["api_key"]
    with running(servers.authz(prefix, file, EVERLOOP_CALLER_FRESH_SECONDS="0.2")):
        await until_ready(servers.bus, "authz")
        known = await authenticate(servers.bus, secret)
        servers.mongo.kill()
        try:
            await asyncio.sleep(0.5)
            for _ in range(3):
                started = time.monotonic()
                assert await authenticate(servers.bus, secret) == known
                assert time.monotonic() - started < 1
        finally:
            servers.mongo.start()
        await until_ready(servers.bus, "authz", 30)
        assert await authenticate(servers.bus, secret) == known
