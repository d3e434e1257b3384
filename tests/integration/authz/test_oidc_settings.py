"""Sign-in at an OpenID Connect provider that is configured otherwise, away, or not there."""

import asyncio

import pytest

from shared import ids
from shared.contracts.access.oidc import BeginOidcSignIn, FinishOidcSignIn
from shared.errors import Denied, NotFound, UpstreamFailed
from tests.integration.authz.oidc_browser import Provider, sign_in_at_provider
from tests.integration.authz.stack import Admin, Servers, browser
from tests.integration.servers import running, until_ready


async def test_an_address_that_is_not_verified_opens_no_account(servers: Servers, provider: Provider) -> None:
    prefix, file = ids.mint("p")[:12], servers.bootstrap_file(email="grace@example.org")
    with running(servers.authz(prefix, file, **provider.settings())):
        await until_ready(servers.bus, "authz")
        begun = await servers.bus.request(BeginOidcSignIn())
        callback = await asyncio.to_thread(sign_in_at_provider, begun.url, "grace")
        with pytest.raises(Denied, match="no verified email address"):
            await servers.bus.request(
                FinishOidcSignIn(**callback._asdict(), browser_secret=begun.browser_secret, browser=browser())
            )


async def test_a_provider_that_is_away_is_an_upstream_failure(servers: Servers, provider: Provider) -> None:
    settings = provider.settings(EVERLOOP_OIDC_ISSUER="http://127.0.0.1:9")
    with running(servers.authz(ids.mint("p")[:12], None, **settings)):
        await until_ready(servers.bus, "authz")
        with pytest.raises(UpstreamFailed, match="does not answer"):
            await servers.bus.request(BeginOidcSignIn())


async def test_without_a_provider_there_is_no_such_sign_in(admin: Admin) -> None:
    with pytest.raises(NotFound, match="No OpenID Connect provider"):
        await admin.bus.request(BeginOidcSignIn())
