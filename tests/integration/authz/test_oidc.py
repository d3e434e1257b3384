"""Sign-in at an OpenID Connect provider: Canaille as a process, and what only a hostile provider answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from shared import ids
from shared.contracts.access.account import AddPerson
from shared.contracts.access.invites import SendInvite
from shared.contracts.access.oidc import BeginOidcSignIn, FinishOidcSignIn, OidcSignedIn
from shared.contracts.access.organisations import GetSetupState, UpdateOrganisation
from shared.contracts.principal import Principal
from shared.errors import Denied, Invalid
from tests.integration.authz.oidc_browser import Callback, Provider, sign_in_at_provider
from tests.integration.authz.stack import Servers, authenticate, browser, session_of, sign_in
from tests.integration.servers import running, until_ready


@dataclass(frozen=True)
class World:
    """An authz that believes the provider's addresses, and the Admin of its only organisation."""

    servers: Servers
    provider: Provider
    prefix: str
    admin: Principal


@pytest.fixture(scope="module")
async def whole_world(servers: Servers, provider: Provider) -> AsyncIterator[World]:
    prefix, file = ids.mint("p")[:12], servers.bootstrap_file(api_key="hl_" + "k" * 48)
    settings = provider.settings(EVERLOOP_OIDC_BELIEVE_EMAIL="true")
    with running(servers.authz(prefix, file, **settings)):
        await until_ready(servers.bus, "authz")
        yield World(servers, provider, prefix, await authenticate(servers.bus, "hl_" + "k" * 48))


@pytest.fixture
async def world(whole_world: World) -> World:
    """Nobody but the Admin is there, and no domain is trusted."""
    database, admin = whole_world.servers.database(whole_world.prefix), whole_world.admin.user_id
    await database["users"].delete_many({"_id": {"$ne": admin}})
    others = {"$pull": {"members": {"user_id": {"$ne": admin}}}, "$unset": {"trusted_domains": ""}}
    await database["organisations"].update_many({}, others)
    return whole_world


async def signed_in_at(world: World, person: str, **changes: str) -> OidcSignedIn:
    """Sign in as a person of the provider; `changes` are made to what the browser brings back."""
    begun = await world.servers.bus.request(BeginOidcSignIn(return_to="/projects"))
    callback = await asyncio.to_thread(sign_in_at_provider, begun.url, person)
    return await world.servers.bus.request(finish(callback, begun.browser_secret, **changes))


def finish(callback: Callback, browser_secret: str, **changes: str) -> FinishOidcSignIn:
    fields: dict[str, Any] = {**callback._asdict(), "browser_secret": browser_secret, "browser": browser()}
    return FinishOidcSignIn.model_validate(fields | changes)


async def test_somebody_invited_is_a_member_after_signing_in_at_the_provider(world: World) -> None:
    bus = world.servers.bus
    assert (await bus.request(GetSetupState())).oidc_name == "single sign-on"
    with pytest.raises(Denied, match="Ask an Admin"):
        await signed_in_at(world, "grace")
    await bus.request(SendInvite(principal=world.admin, email="Grace@example.org", role="Developer"))
    first = await signed_in_at(world, "grace")
    assert first.return_to == "/projects"
    me = await session_of(bus, first.signed_in.secret)
    assert (me.email, me.role, me.organisation) == ("grace@example.org", "Developer", world.admin.organisation)
    again = await signed_in_at(world, "grace")
    assert again.signed_in.principal.user_id == me.user_id
    with pytest.raises(Denied):
        await signed_in_at(world, "eve")


async def test_somebody_with_a_password_is_the_same_person(world: World) -> None:
    bus = world.servers.bus
    added = await bus.request(AddPerson(email="ada@example.com", role="Member"))
    await bus.request(AddPerson(email="grace@example.org", role="Member"))
    by_password = await sign_in(bus, "ada@example.com", added.password)
    by_provider = await signed_in_at(world, "grace")
    assert by_provider.signed_in.principal.user_id != by_password.principal.user_id
    assert by_provider.signed_in.principal.email == "grace@example.org"


async def test_a_trusted_domain_lets_people_join_as_member(world: World) -> None:
    bus = world.servers.bus
    await bus.request(UpdateOrganisation(principal=world.admin, trusted_domains=["example.org"]))
    joined = await signed_in_at(world, "eve")
    assert (joined.signed_in.principal.role, joined.signed_in.principal.email) == ("Member", "eve@example.org")


async def test_the_browser_is_sent_with_pkce_state_and_nonce(world: World) -> None:
    one, other = [await world.servers.bus.request(BeginOidcSignIn()) for _ in range(2)]
    asked = httpx.URL(one.url).params
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert {"openid", "email", "profile"} == set(asked["scope"].split())
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[name]) >= 43
        assert asked[name] != httpx.URL(other.url).params[name]
    assert one.browser_secret not in one.url


async def test_an_answer_is_taken_once_and_only_from_the_browser_that_asked(world: World) -> None:
    bus = world.servers.bus
    await bus.request(AddPerson(email="grace@example.org", role="Member"))
    mine, victims = [await bus.request(BeginOidcSignIn()) for _ in range(2)]
    callback = await asyncio.to_thread(sign_in_at_provider, mine.url, "grace")
    # Sign-in of another: the attacker's answer, sent by the victim's browser.
    with pytest.raises(Invalid, match="not begun in this browser"):
        await bus.request(finish(callback, victims.browser_secret))
    with pytest.raises(Invalid, match="not begun in this browser"):  # and it is used up by that
        await bus.request(finish(callback, mine.browser_secret))
    again = await bus.request(BeginOidcSignIn())
    callback = await asyncio.to_thread(sign_in_at_provider, again.url, "grace")
    assert await bus.request(finish(callback, again.browser_secret))
    with pytest.raises(Invalid):
        await bus.request(finish(callback, again.browser_secret))


async def test_a_code_of_another_sign_in_is_refused_by_pkce_and_nonce(world: World) -> None:
    bus = world.servers.bus
    await bus.request(AddPerson(email="grace@example.org", role="Member"))
    attackers, victims = [await bus.request(BeginOidcSignIn()) for _ in range(2)]
    stolen = await asyncio.to_thread(sign_in_at_provider, victims.url, "grace")
    own_state = httpx.URL(attackers.url).params["state"]
    with pytest.raises(Invalid, match="did not accept"):
        await bus.request(finish(stolen._replace(state=own_state), attackers.browser_secret))


async def test_an_answer_of_another_provider_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match="another provider"):
        await signed_in_at(world, "grace", issuer="https://evil.example")


async def test_the_browser_goes_to_no_other_host_afterwards(world: World) -> None:
    bus = world.servers.bus
    await bus.request(AddPerson(email="grace@example.org", role="Member"))
    begun = await bus.request(BeginOidcSignIn(return_to="//evil.example"))
    callback = await asyncio.to_thread(sign_in_at_provider, begun.url, "grace")
    assert (await bus.request(finish(callback, begun.browser_secret))).return_to == "/"
