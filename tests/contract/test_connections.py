"""Connections that are pool are used again, and not pool for ever."""

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
async def pool() -> AsyncIterator[Connections]:
    pool = Connections()
    yield pool
    await pool.aclose()


async def get(pool: Connections, upstream: FakeServer) -> None:
    response = await pool.handle_async_request(httpx.Request("GET", upstream.url))
    await response.aread()
    await response.aclose()


async def test_a_connection_is_reused(pool: Connections, upstreams: list[FakeServer]) -> None:
    before = upstreams[0].connections
    for _ in range(3):
        await get(pool, upstreams[0])
    assert upstreams[0].connections == before + 1


async def closed(upstream: FakeServer, *, left: int) -> None:
    async with asyncio.timeout(5):
        while upstream.open_connections > left:  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.01)


async def test_connections_idle_for_too_long_are_closed_whatever_their_origin(
    pool: Connections, upstreams: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: now))
    first, second, third = upstreams
    await asyncio.gather(get(pool, first), get(pool, first), get(pool, second))
    now += connections._IDLE_SECONDS - 1
    await get(pool, second)
    assert first.open_connections == 2
    now += 2
    await get(pool, third)
    await closed(first, left=0)
    assert second.open_connections == 1
    assert third.open_connections == 1
    assert len(pool._idle) == 2


async def test_surplus_idle_connections_are_closed_oldest_first(
    pool: Connections, upstreams: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MAX_IDLE_CONNECTIONS", 2)
    await asyncio.gather(*(get(pool, upstreams[0]) for _ in range(5)))
    await closed(upstreams[0], left=2)
    assert upstreams[0].open_connections == 2
