"""Calls to providers: whatever a provider does and whenever a call is cut off, nothing of it is left but idle
connections, and every place is free."""

import asyncio
import itertools
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from services.generation.models.request import ModelRequest
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import CallProgress, Dispatch, RetryPolicy
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Problem
from tests.fake_servers.misbehaving import BEHAVIOURS, MisbehavingServer, unconnectable
from tests.integration.generation.certificates import certificate
from tests.integration.generation.endings import call_and_end_in_every_way, leaving_nothing, until

POLICY = RetryPolicy(tries=1, max_concurrency=64, failure_threshold=1_000_000)
PLACES = 48
"""Of one organisation."""


class Provider:
    """Calls at any URL, every second one streamed."""

    def __init__(self) -> None:
        self.client = Client(5.0, {})
        self.dispatch = Dispatch(self.client, POLICY)
        self._streams = itertools.cycle([False, True])

    async def call(self, url: str, seconds: float) -> object:
        """Make one call. Raises TimeoutError if it takes longer."""
        config = ModelConfig(model="gpt-4", endpoint="chat")
        request = ModelRequest(config, [ChatMessage(role="user", content="hi")], stream=next(self._streams))
        prepared = Providers({"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-1"}, None).prepare(request, {})[0]
        async with asyncio.timeout(seconds):
            if not request.stream:
                return await self.dispatch.complete("tm_1", prepared, CallProgress())
            return [delta async for delta in self.dispatch.stream("tm_1", prepared, CallProgress())]

    @property
    def idle(self) -> int:
        """How many connections wait for another call."""
        return sum(len(connections) for connections in self.client._connections._idle.values())


async def count_free_places(provider: Provider) -> int:
    """Return how many calls get through at once to a provider that lets them wait."""
    async with MisbehavingServer(None).running() as silent:
        waiting = [asyncio.create_task(provider.call(silent.url("silent"), 10.0)) for _ in range(100)]
        await until(lambda: silent.peak >= PLACES)
        await asyncio.sleep(0.1)  # and no more than these
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return silent.peak


async def end_in_every_way(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with leaving_nothing():
        provider = Provider()
        provider.client._connections._tls = contexts[1]
        plain, secure = MisbehavingServer(None), MisbehavingServer(contexts[0])
        async with plain.running(), secure.running():
            with unconnectable() as port:
                urls = [server.url(name) for server in (plain, secure) for name in BEHAVIOURS]
                no_tls = f"https://127.0.0.1:{plain.port}/silent"
                urls += [f"http://127.0.0.1:{port}/", f"https://127.0.0.1:{port}/", no_tls, "http://127.0.0.1:1/"] * 4
                outcomes = await call_and_end_in_every_way(provider.call, urls, 1000, seed=9)
            with pytest.raises(Problem):  # `{}` is not what OpenAI answers, but its connection is kept
                await provider.call(plain.url("fine"), 5.0)
            await until(lambda: plain.open + secure.open <= provider.idle)
            assert 0 < plain.open + secure.open <= provider.idle
            assert await count_free_places(provider) == PLACES
        await provider.client.close()
    problems = {"Invalid", "UpstreamFailed", "_InvalidResponse", "QueueTimeout", "Unavailable"}
    expected = {"cancelled", "TimeoutError"}
    assert expected <= outcomes.keys() <= problems | expected, outcomes


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    path = certificate(tmp_path, "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_nothing_is_left_of_calls_that_end_in_every_way(
    run: Callable[[Coroutine[Any, Any, None]], None], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    run(end_in_every_way(contexts))
