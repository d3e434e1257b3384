"""Sign-in with a password, and browser sessions, over the bus."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.authz.credentials.random_secrets import hash_secret
from shared import ids
from shared.contracts.access.account import (
    AddPerson,
    ChangeName,
    ChangePassword,
    GetAccount,
    ListPeople,
    RequestPasswordReset,
    SetPassword,
)
from shared.contracts.access.members import RemoveMember
from shared.contracts.access.organisations import CreateOrganisation
from shared.contracts.access.sessions import (
    EndSession,
    ListSessions,
    SignOut,
    SignOutEverywhere,
    SwitchOrganisation,
)
from shared.contracts.message import Request
from shared.errors import Conflict, Denied, Invalid, NotFound, RateLimited, Unauthenticated, Unavailable
from tests.integration.authz.stack import PASSWORD, Admin, browser, new_person, session_of, sign_in


async def test_a_session_is_the_member_with_their_role(admin: Admin) -> None:
    first = await new_person(admin, "Developer")
    email = first.principal.email or ""
    again = await sign_in(admin.bus, email.upper())
    me = await session_of(admin.bus, again.secret)
    assert (me.kind, me.email, me.role, me.organisation) == ("member", email, "Developer", admin.principal.organisation)
    assert me.key_id is None
    assert me.session_id != first.principal.session_id
    assert again.secret != first.secret


async def test_nothing_secret_of_a_session_is_stored(admin: Admin) -> None:
    person = await new_person(admin)
    database = admin.servers.database(admin.prefix)
    for name in await database.list_collection_names():
        async for document in database[name].find({}):
            assert person.secret not in str(document)
            assert PASSWORD not in str(document)


async def test_wrong_passwords_and_unknown_people_are_refused_in_the_same_words(admin: Admin) -> None:
    email = (await new_person(admin)).principal.email or ""
    messages = set()
    for address, password in ((email, "wrong"), ("nobody@example.org", PASSWORD), ("no address", PASSWORD)):
        with pytest.raises(Unauthenticated) as refused:
            await sign_in(admin.bus, address, password)
        messages.add(refused.value.message)
    assert messages == {"Email address or password wrong."}


async def test_a_person_is_not_guessed_more_than_ten_times_from_one_address(admin: Admin) -> None:
    email, here = (await new_person(admin)).principal.email or "", browser()
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            await sign_in(admin.bus, email, "wrong", here)
    with pytest.raises(RateLimited) as limited:
        await sign_in(admin.bus, email, "wrong", here)
    assert 0 < (limited.value.retry_after_seconds or 0) <= 15 * 60
    with pytest.raises(RateLimited):  # not even with the right one
        await sign_in(admin.bus, email, PASSWORD, here)
    assert await sign_in(admin.bus, email)  # the person, from where they are


async def test_people_who_do_not_exist_are_throttled_alike(admin: Admin) -> None:
    here = browser()
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            await sign_in(admin.bus, "nobody@example.net", "wrong", here)
    with pytest.raises(RateLimited):
        await sign_in(admin.bus, "nobody@example.net", "wrong", here)


async def test_guesses_at_the_same_time_are_counted(admin: Admin) -> None:
    email, here = (await new_person(admin)).principal.email or "", browser()
    outcomes = await asyncio.gather(
        *(sign_in(admin.bus, email, f"wrong {n}", here) for n in range(25)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Unauthenticated) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 15


async def test_a_successful_sign_in_forgets_the_failures(admin: Admin) -> None:
    email, here = (await new_person(admin)).principal.email or "", browser()
    for _ in range(3):
        for _ in range(8):
            with pytest.raises(Unauthenticated):
                await sign_in(admin.bus, email, "wrong", here)
        await sign_in(admin.bus, email, PASSWORD, here)


async def test_an_ended_session_is_refused(admin: Admin) -> None:
    person = await new_person(admin)
    await admin.bus.request(SignOut(session_hash=hash_secret(person.secret), browser=browser()))
    with pytest.raises(Unauthenticated, match="Sign in again"):
        await session_of(admin.bus, person.secret)
    await admin.bus.request(SignOut(session_hash=hash_secret(person.secret), browser=browser()))


async def test_signing_out_everywhere_ends_every_session_of_the_person_and_no_other(admin: Admin) -> None:
    person, other = await new_person(admin), await new_person(admin)
    more = [await sign_in(admin.bus, person.principal.email or "") for _ in range(3)]
    await admin.bus.request(SignOutEverywhere(principal=person.principal))
    for session in (person, *more):
        with pytest.raises(Unauthenticated):
            await session_of(admin.bus, session.secret)
    assert (await session_of(admin.bus, other.secret)).user_id == other.principal.user_id


async def test_people_see_and_end_their_own_sessions_only(admin: Admin) -> None:
    person, other = await new_person(admin), await new_person(admin)
    second = await sign_in(admin.bus, person.principal.email or "")
    mine = (await admin.bus.request(ListSessions(principal=person.principal))).sessions
    assert {session.id for session in mine} == {person.principal.session_id, second.principal.session_id}
    with pytest.raises(NotFound):
        await admin.bus.request(EndSession(principal=other.principal, id=mine[0].id))
    await admin.bus.request(EndSession(principal=person.principal, id=second.principal.session_id or ""))
    with pytest.raises(Unauthenticated):
        await session_of(admin.bus, second.secret)
    assert await session_of(admin.bus, person.secret)


async def test_a_removed_member_is_signed_out_and_stays_so_when_they_come_back(admin: Admin) -> None:
    person = await new_person(admin)
    user_id, email = person.principal.user_id or "", person.principal.email or ""
    await admin.bus.request(RemoveMember(principal=admin.principal, user_id=user_id))
    with pytest.raises(Unauthenticated):
        await session_of(admin.bus, person.secret)
    with pytest.raises(Denied, match="not a member of any organisation"):
        await sign_in(admin.bus, email)
    organisation = admin.principal.organisation
    await admin.bus.request(AddPerson(email=email, role="Member", organisation=organisation))
    with pytest.raises(Unauthenticated):
        await session_of(admin.bus, person.secret)
    assert (await sign_in(admin.bus, email)).principal.user_id == user_id


async def test_a_session_ends_when_it_is_not_used_and_at_its_time(admin: Admin) -> None:
    sessions = admin.servers.database(admin.prefix)["sessions"]
    for field, age in (("last_used_at", timedelta(hours=73)), ("expires_at", timedelta(minutes=1))):
        person = await new_person(admin)
        assert person.principal.valid_until is not None
        past = datetime.now(UTC) - age
        await sessions.update_one({"_id": person.principal.session_id}, {"$set": {field: past}})
        with pytest.raises(Unauthenticated, match="expired"):
            await session_of(admin.bus, person.secret)
        assert (await admin.bus.request(ListSessions(principal=person.principal))).sessions == []


async def test_a_changed_password_ends_the_sessions_and_is_the_only_one_that_works(admin: Admin) -> None:
    person = await new_person(admin)
    email = person.principal.email or ""
    change = ChangePassword(
        principal=person.principal, current_password="wrong", new_password="staple paper clips", browser=browser()
    )
    with pytest.raises(Invalid, match="current_password"):
        await admin.bus.request(change)
    with pytest.raises(Invalid, match="new_password"):
        await admin.bus.request(change.model_copy(update={"current_password": PASSWORD, "new_password": "short"}))
    assert await session_of(admin.bus, person.secret)
    new = await admin.bus.request(change.model_copy(update={"current_password": PASSWORD}))
    with pytest.raises(Unauthenticated):
        await session_of(admin.bus, person.secret)
    assert (await session_of(admin.bus, new.secret)).user_id == person.principal.user_id
    with pytest.raises(Unauthenticated):
        await sign_in(admin.bus, email)
    assert await sign_in(admin.bus, email, "staple paper clips")


async def test_an_api_key_does_not_open_its_creators_account(admin: Admin) -> None:
    by_key = admin.principal
    commands: tuple[Request[Any], ...] = (
        SignOutEverywhere(principal=by_key),
        ListSessions(principal=by_key),
        EndSession(principal=by_key, id="ses_1"),
        ChangeName(principal=by_key, full_name="Eve"),
        SwitchOrganisation(principal=by_key, to="tm_1", browser=browser()),
        ChangePassword(principal=by_key, current_password="x", new_password="y" * 20, browser=browser()),
    )
    for command in commands:
        with pytest.raises(Denied, match="an API key is not enough"):
            await admin.bus.request(command)


async def test_a_person_acts_in_one_organisation_at_a_time(admin: Admin) -> None:
    person = await new_person(admin, "Admin")
    second = await admin.bus.request(CreateOrganisation(principal=person.principal, name="Second"))
    switch = SwitchOrganisation(principal=person.principal, to=second.id, browser=browser())
    there = await admin.bus.request(switch)
    assert (await session_of(admin.bus, there.secret)).organisation == second.id
    with pytest.raises(Unauthenticated):
        await session_of(admin.bus, person.secret)
    account = await admin.bus.request(GetAccount(principal=there.principal))
    assert {one.organisation for one in account.memberships} == {second.id, admin.principal.organisation}
    assert (await sign_in(admin.bus, person.principal.email or "")).principal.organisation == second.id
    named = await sign_in(admin.bus, person.principal.email or "", organisation=admin.principal.organisation)
    assert named.principal.organisation == admin.principal.organisation
    with pytest.raises(NotFound):
        await admin.bus.request(switch.model_copy(update={"to": "tm_of_others"}))


async def test_the_operator_lists_adds_and_lets_in(admin: Admin) -> None:
    email, organisation = f"{ids.mint('who')}@corp.local".lower(), admin.principal.organisation
    added = await admin.bus.request(AddPerson(email=email, role="Developer", organisation=organisation))
    assert (await sign_in(admin.bus, email, added.password)).principal.role == "Developer"
    with pytest.raises(Conflict):
        await admin.bus.request(AddPerson(email=email, role="Admin", organisation=organisation))
    person = next(one for one in (await admin.bus.request(ListPeople())).people if one.email == email)
    assert [(one.organisation, one.role) for one in person.memberships] == [(organisation, "Developer")]
    before = await sign_in(admin.bus, email, added.password)
    set_ = await admin.bus.request(SetPassword(email=email))
    with pytest.raises(Unauthenticated):
        await session_of(admin.bus, before.secret)
    assert await sign_in(admin.bus, email, set_.password)
    with pytest.raises(NotFound):
        await admin.bus.request(SetPassword(email="nobody@corp.local"))


async def test_without_a_mail_server_a_reset_says_who_can_help(admin: Admin) -> None:
    with pytest.raises(Unavailable, match="everloop user reset-password"):
        await admin.bus.request(RequestPasswordReset(email="ada@example.org", browser=browser()))
