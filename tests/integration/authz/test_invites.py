"""Invites and set-up over the bus."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import pytest

from services.authz.credentials.random_secrets import hash_secret
from shared import ids
from shared.contracts.access.invites import (
    AcceptInvite,
    ListInvites,
    PreviewInvite,
    ResendInvite,
    RevokeInvite,
    SendInvite,
)
from shared.contracts.access.members import ListMembers
from shared.contracts.access.organisations import GetOrganisation, GetSetupState, SetUp, UpdateOrganisation
from shared.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from tests.integration.authz.stack import (
    PASSWORD,
    Admin,
    Servers,
    browser,
    new_admin,
    new_person,
    session_of,
    sign_in,
)
from tests.integration.servers import running, until_ready
from tests.principals import member


def new_email() -> str:
    return f"{ids.mint('who')}@example.org".lower()


async def invited(admin: Admin, email: str, **more: str) -> tuple[str, str]:
    """Return id and token of a new invite."""
    new = await admin.bus.request(SendInvite(principal=admin.principal, email=email, **more))
    path, _, token = new.link.partition("#")
    assert (path, new.mailed) == ("/invite", False)
    return new.invite.id, token


def accept(token: str, **more: object) -> AcceptInvite:
    return AcceptInvite.model_validate({"token": token, "browser": browser()} | more)


async def test_an_invited_person_becomes_a_member_with_the_role(admin: Admin) -> None:
    email = new_email()
    _, token = await invited(admin, email.upper(), role="Developer")
    preview = await admin.bus.request(PreviewInvite(token=token))
    assert (preview.email, preview.role, preview.has_account) == (email, "Developer", False)
    assert preview.invited_by == admin.principal.email
    session = await admin.bus.request(accept(token, full_name=" Grace Hopper ", password=PASSWORD))
    assert (await session_of(admin.bus, session.secret)).role == "Developer"
    members = (await admin.bus.request(ListMembers(principal=admin.principal))).members
    assert [(one.role, one.full_name) for one in members if one.email == email] == [("Developer", "Grace Hopper")]
    assert (await admin.bus.request(ListInvites(principal=admin.principal))).invites == []


async def test_an_invite_works_once_even_at_the_same_moment(admin: Admin) -> None:
    _, token = await invited(admin, new_email())
    outcomes = await asyncio.gather(
        *(admin.bus.request(accept(token, password=PASSWORD)) for _ in range(5)), return_exceptions=True
    )
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1, outcomes
    assert all(
        isinstance(outcome, NotFound | Conflict | Unauthenticated)
        for outcome in outcomes
        if isinstance(outcome, Exception)
    )
    with pytest.raises(NotFound, match="used or revoked"):
        await admin.bus.request(accept(token, password=PASSWORD))


async def test_a_refused_acceptance_leaves_the_invite_and_nobody_behind(admin: Admin) -> None:
    email = new_email()
    _, token = await invited(admin, email)
    for wrong in ({}, {"password": "short"}, {"password": PASSWORD, "full_name": "x" * 101}):
        with pytest.raises(Invalid):
            await admin.bus.request(accept(token, **wrong))
    database = admin.servers.database(admin.prefix)
    assert await database["users"].count_documents({"email": email}) == 0
    assert await admin.bus.request(accept(token, password=PASSWORD))


async def test_expired_revoked_and_replaced_invites_are_void(admin: Admin) -> None:
    database = admin.servers.database(admin.prefix)
    id_, expired = await invited(admin, new_email())
    past = datetime.now(UTC) - timedelta(seconds=1)
    await database["invites"].update_one({"_id": id_}, {"$set": {"expires_at": past}})
    id_, revoked = await invited(admin, new_email())
    await admin.bus.request(RevokeInvite(principal=admin.principal, id=id_))
    email = new_email()
    _, replaced = await invited(admin, email)
    id_, resent = await invited(admin, email, role="Admin")
    new = await admin.bus.request(ResendInvite(principal=admin.principal, id=id_))
    for token in (expired, revoked, replaced, resent, "hli_unknown"):
        with pytest.raises(NotFound):
            await admin.bus.request(accept(token, password=PASSWORD))
        with pytest.raises(NotFound):
            await admin.bus.request(PreviewInvite(token=token))
    with pytest.raises(NotFound):
        await admin.bus.request(RevokeInvite(principal=admin.principal, id="inv_unknown"))
    with pytest.raises(NotFound):
        await admin.bus.request(ResendInvite(principal=admin.principal, id="inv_unknown"))
    session = await admin.bus.request(accept(new.link.partition("#")[2], password=PASSWORD))
    assert session.principal.role == "Admin"


async def test_an_invite_lasts_seven_days_and_its_token_is_not_stored(admin: Admin) -> None:
    _, token = await invited(admin, new_email())
    (invite,) = (await admin.bus.request(ListInvites(principal=admin.principal))).invites
    assert invite.expires_at - invite.created_at == timedelta(days=7)
    async for document in admin.servers.database(admin.prefix)["invites"].find({}):
        assert token not in str(document)


async def test_somebody_with_an_account_proves_it_and_is_a_member_of_both(admin: Admin) -> None:
    """The link alone does not open an account that exists."""
    person, second = await new_person(admin), await new_admin(admin.servers)
    email = person.principal.email or ""
    _, token = await invited(second, email, role="Developer")
    assert (await admin.bus.request(PreviewInvite(token=token))).has_account
    with pytest.raises(Invalid, match="sign in, or send its password"):
        await admin.bus.request(accept(token))
    with pytest.raises(Unauthenticated):
        await admin.bus.request(accept(token, password="another password"))
    stranger = await new_person(admin)
    with pytest.raises(Invalid):
        await admin.bus.request(accept(token, session_hash=hash_secret(stranger.secret)))
    session = await admin.bus.request(accept(token, session_hash=hash_secret(person.secret)))
    assert (session.principal.organisation, session.principal.role) == (second.principal.organisation, "Developer")
    assert await sign_in(admin.bus, email)  # with the password of before
    with pytest.raises(Conflict, match="a member of your organisation already"):
        await invited(second, email)


async def test_only_admins_invite(admin: Admin) -> None:
    for role in ("Developer", "Member"):
        person = await new_person(admin, role)
        with pytest.raises(Denied):
            await admin.bus.request(SendInvite(principal=person.principal, email=new_email()))
    # A gateway that says Admin of somebody who is not one is not believed.
    claimed = member(admin.principal.organisation, "Admin")
    with pytest.raises(Denied):
        await admin.bus.request(SendInvite(principal=claimed, email=new_email()))


async def test_settings_are_changed_one_by_one_and_slugs_are_unique(admin: Admin) -> None:
    slug = f"engines-{os.urandom(4).hex()}"
    change = UpdateOrganisation(
        principal=admin.principal, name=" Engines ", slug=slug, trusted_domains=["@Example.ORG"]
    )
    settings = await admin.bus.request(change)
    assert (settings.name, settings.slug, settings.trusted_domains) == ("Engines", slug, ["example.org"])
    settings = await admin.bus.request(UpdateOrganisation(principal=admin.principal, name="Machines"))
    assert (settings.name, settings.slug, settings.trusted_domains) == ("Machines", slug, ["example.org"])
    assert await admin.bus.request(GetOrganisation(principal=admin.principal)) == settings
    other = await new_admin(admin.servers)
    with pytest.raises(Conflict, match="is taken"):
        await admin.bus.request(UpdateOrganisation(principal=other.principal, slug=slug))
    for wrong in ({"slug": "No Slug"}, {"name": " "}, {"trusted_domains": ["gmail.com"]}):
        with pytest.raises(Invalid, match=next(iter(wrong))):
            await admin.bus.request(UpdateOrganisation.model_validate({"principal": admin.principal} | wrong))


async def test_whoever_has_the_operators_token_sets_up_once(servers: Servers) -> None:
    prefix, token = ids.mint("p")[:12], "a token of the operator"
    authz = servers.authz(prefix, EVERLOOP_SETUP_TOKEN=token)
    command = SetUp(
        token=token, organisation_name="Engines", email="ada@example.org", password=PASSWORD, browser=browser()
    )
    with running(authz):
        await until_ready(servers.bus, "authz")
        assert (await servers.bus.request(GetSetupState())).needed
        with pytest.raises(Denied, match="EVERLOOP_SETUP_TOKEN"):
            await servers.bus.request(command.model_copy(update={"token": "guessed"}))
        with pytest.raises(Invalid, match="organisation_name"):
            await servers.bus.request(command.model_copy(update={"organisation_name": ""}))
        outcomes = await asyncio.gather(
            *(servers.bus.request(command.model_copy(update={"email": f"{n}@example.org"})) for n in range(3)),
            return_exceptions=True,
        )
        (first,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert first.principal.role == "Admin"
        assert all(isinstance(outcome, Conflict) for outcome in outcomes if isinstance(outcome, BaseException))
        assert not (await servers.bus.request(GetSetupState())).needed
        with pytest.raises(Conflict, match="set up already"):
            await servers.bus.request(command)
    database = servers.database(prefix)
    for name in ("organisations", "users"):
        assert await database[name].count_documents({}) == 1, name


async def test_without_a_token_of_the_operator_nobody_sets_up(servers: Servers) -> None:
    with running(servers.authz(ids.mint("p")[:12])):
        await until_ready(servers.bus, "authz")
        command = SetUp(token="", organisation_name="x", email="a@b.org", password=PASSWORD, browser=browser())
        with pytest.raises(Denied, match="Set-up is closed"):
            await servers.bus.request(command)
