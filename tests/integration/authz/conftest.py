"""Fixtures of the authz service on real servers."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from shared.bus import StreamSpec, ensure_stream
from shared.mongo import connect, initiate_replica_set
from shared.settings import DatabaseSettings
from tests.integration.authz.oidc_browser import Provider
from tests.integration.authz.stack import Admin, Servers, new_admin
from tests.integration.servers import Mongo, Nats, connected, running, until_listening, until_ready


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Yield servers on which only the authz processes run that a test starts."""
    folder = tmp_path_factory.mktemp("authz")
    nats, mongo = Nats(folder), Mongo(folder)
    with running(nats), running(mongo):
        await initiate_replica_set(f"mongodb://127.0.0.1:{mongo.port}", f"127.0.0.1:{mongo.port}")
        async with connected(nats) as bus:
            await ensure_stream(bus, StreamSpec(name="EVENTS", subjects=("events.>",)))
            database = connect(DatabaseSettings(mongo_url=mongo.url), "authz")
            yield Servers(folder, nats, mongo, bus, database)
            database.client.close()


@pytest.fixture(scope="module")
async def running_authz(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Yield servers on which one authz process runs for all tests; each test uses an organisation of its own."""
    folder = tmp_path_factory.mktemp("busy")
    nats = Nats(folder)
    with running(nats):
        async with connected(nats) as bus:
            await ensure_stream(bus, StreamSpec(name="EVENTS", subjects=("events.>",)))
            on_own_bus = replace(servers, folder=folder, nats=nats, bus=bus)
            with running(on_own_bus.authz("busy")):
                await until_ready(bus, "authz")
                yield on_own_bus


@pytest.fixture
async def admin(running_authz: Servers) -> Admin:
    """The first Admin of an organisation of its own."""
    return await new_admin(running_authz)


@pytest.fixture(scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    """An OpenID Connect provider that runs."""
    provider = Provider(tmp_path_factory.mktemp("provider"))
    with running(provider):
        until_listening(provider.port, 30)
        yield provider
