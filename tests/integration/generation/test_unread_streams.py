"""Streams whose caller does not read: little is read ahead, and nothing is kept once the caller has left."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any

import pytest
import uvloop

from services.generation.models.request import ModelRequest
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import CallProgress, Dispatch, RetryPolicy
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from tests.fake_servers import endless
from tests.fake_servers.endless import EndlessProvider

READ_AHEAD_BYTES = 1024 * 1024
"""Of one stream, with what the kernel keeps on both sides."""
TAKEN_BYTES = 20 * 1024 * 1024
"""Read first: the kernel gives a connection more room the more is read from it."""


@pytest.fixture
def provider() -> Iterator[EndlessProvider]:
    with endless.serve() as provider:
        yield provider


def streamed_request(provider: EndlessProvider) -> PreparedRequest:
    config = ModelConfig(model="gpt-4", endpoint="chat")
    request = ModelRequest(config, [ChatMessage(role="user", content="hi")], stream=True)
    return Providers({"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-1"}, None).prepare(request, {})[0]


async def leave_unread(provider: EndlessProvider) -> None:
    client, taken = Client(5.0, {}), 0
    async with aclosing(client.stream(streamed_request(provider))) as deltas:
        async for delta in deltas:
            taken += len(delta.text)
            if taken >= TAKEN_BYTES:
                break
        sent = -1
        while sent < provider.sent[0]:  # until the provider can send no more
            sent = provider.sent[0]
            assert sent - taken <= READ_AHEAD_BYTES
            await asyncio.sleep(0.5)
    await client.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_little_is_read_ahead_of_a_stream_that_is_not_read(
    run: Callable[[Coroutine[Any, Any, None]], None], provider: EndlessProvider
) -> None:
    run(leave_unread(provider))


async def test_an_answer_whose_caller_has_left_is_freed_without_a_collection_of_cycles(
    provider: EndlessProvider,
) -> None:
    client = Client(5.0, {})
    dispatch, progress = Dispatch(client, RetryPolicy()), CallProgress()
    kept = weakref.ref(progress.accumulator)
    gc.disable()
    try:
        async with aclosing(dispatch.stream("tm_1", streamed_request(provider), progress)) as deltas:
            await anext(deltas)
            kept = weakref.ref(progress.accumulator)
            assert kept() is not None
        del deltas, progress
        assert kept() is None
    finally:
        gc.enable()
    await client.close()
