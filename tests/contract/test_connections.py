"""Connections that are kept are used again, and not kept for ever."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest

from services.generation.providers.transport import connections
from services.generation.providers.transport.connections import Connections
from tests.fake_servers import openai as fake_servers
from tests.fake_servers.server import FakeServer


@pytest.fixture
def upstreams() -> list[FakeServer]:
    return [fake_servers.start() for _ in range(3)]


@pytest.fixture
async def kept() -> AsyncIterator[Connections]:
    kept = Connections()
    yield kept
    await kept.aclose()


async def ask(kept: Connections, upstream: FakeServer) -> None:
    response = await kept.handle_async_request(httpx.Request("GET", upstream.url))
    await response.aread()
    await response.aclose()


async def test_a_connection_is_used_again(kept: Connections, upstreams: list[FakeServer]) -> None:
    before = upstreams[0].connections
    for _ in range(3):
        await ask(kept, upstreams[0])
    assert upstreams[0].connections == before + 1


async def closed(upstream: FakeServer, *, left: int) -> None:
    async with asyncio.timeout(5):
        while upstream.open_connections > left:  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.01)


async def test_what_nobody_took_for_long_is_closed_whomever_it_leads_to(
    kept: Connections, upstreams: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: now))
    first, second, third = upstreams
    await asyncio.gather(ask(kept, first), ask(kept, first), ask(kept, second))
    now += connections._IDLE_SECONDS - 1
    await ask(kept, second)
    assert first.open_connections == 2
    now += 2
    await ask(kept, third)
    await closed(first, left=0)
    assert second.open_connections == 1
    assert third.open_connections == 1
    assert len(kept._free) == 2


async def test_of_many_free_connections_to_one_server_the_oldest_are_closed(
    kept: Connections, upstreams: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_IDLE_CONNECTIONS", 2)
    await asyncio.gather(*(ask(kept, upstreams[0]) for _ in range(5)))
    await closed(upstreams[0], left=2)
    assert upstreams[0].open_connections == 2
