"""Calls with patience, against a server that misbehaves."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.generation.completion import Completion, CompletionRequest
from services.generation.providers.base import Call
from services.generation.providers.calls import Providers
from services.generation.providers.client import Client
from services.generation.providers.dispatch import Dispatch, Patience
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid, Problem, RateLimited, Unavailable, UpstreamFailed
from tests.standins import openai as standins
from tests.standins.server import StandIn

QUICK = Patience(wait_initial_seconds=0.01, rest_seconds=0.3)


@pytest.fixture(scope="module")
def upstream() -> StandIn:
    return standins.start()


@pytest.fixture
async def client(upstream: StandIn) -> AsyncIterator[Client]:
    upstream.clear()
    client = Client(5.0, {})
    yield client
    await client.close()


def call(upstream: StandIn, *, stream: bool = False) -> Call:
    config = ModelConfig(model="gpt-4", endpoint="chat")
    request = CompletionRequest(config, messages=[ChatMessage(role="user", content="hi")], stream=stream)
    (made,) = Providers({"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-1"}, None).calls(request, {})
    return made


async def text(dispatch: Dispatch, call: Call) -> str:
    if not call.request.stream:
        completion: Completion = await dispatch.complete(call)
        return completion.choices[0].text
    return "".join([chunk.text async for chunk in dispatch.stream(call)])


async def settled(upstream: StandIn) -> None:
    """No answer is being written any more, and no connection is open that nobody uses."""
    deadline = time.monotonic() + 5
    while upstream.streaming and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread makes it true
        await asyncio.sleep(0.01)
    assert upstream.streaming == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_load_and_defects_are_tried_again(client: Client, upstream: StandIn, status: int, stream: bool) -> None:
    upstream.reply(status=status)
    upstream.reply(status=status)
    assert (await text(Dispatch(client, QUICK), call(upstream, stream=stream))).strip() == "Fine, thank you."
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_refusal_is_told(client: Client, upstream: StandIn, stream: bool) -> None:
    for number in range(3):
        upstream.reply(status=500, error={"message": f"failure {number}"})
    with pytest.raises(UpstreamFailed, match="failure 2"):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_would_be_refused_again_is_not_tried_again(client: Client, upstream: StandIn, status: int) -> None:
    upstream.reply(status=status)
    with pytest.raises(Problem):
        await text(Dispatch(client, QUICK), call(upstream))
    assert len(upstream.requests) == 1


async def test_retry_after_is_honoured(client: Client, upstream: StandIn) -> None:
    upstream.reply(status=429, headers={"Retry-After": "0.4"})
    started = time.monotonic()
    await text(Dispatch(client, QUICK), call(upstream))
    assert time.monotonic() - started >= 0.4


async def test_a_wait_too_long_is_the_callers_to_decide(client: Client, upstream: StandIn) -> None:
    upstream.reply(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(RateLimited) as caught:
        await text(Dispatch(client, QUICK), call(upstream))
    assert caught.value.retry_after_seconds == 3600
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [{"break_after_chunks": 0}, {"break_after_chunks": 2}, {"garbage": True}],
    ids=["dies at once", "dies in the middle", "garbage"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_may_have_cost_something_is_not_tried_again(
    client: Client, upstream: StandIn, reply: dict[str, Any], stream: bool
) -> None:
    upstream.reply(**reply)
    with pytest.raises(UpstreamFailed):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert len(upstream.requests) == 1
    await settled(upstream)


async def test_a_provider_that_is_not_there_is_tried_again(client: Client) -> None:
    nobody = StandIn(url="http://127.0.0.1:9/v1")
    patience = Patience(wait_initial_seconds=0.01, tries=2)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await text(Dispatch(client, patience), call(nobody))


@pytest.mark.parametrize("stream", [False, True])
async def test_waiting_has_an_end(client: Client, upstream: StandIn, stream: bool) -> None:
    upstream.reply(delay_seconds=1.0)
    with pytest.raises(UpstreamFailed, match="did not answer in time"):
        await text(Dispatch(client, Patience(total_seconds=0.2)), call(upstream, stream=stream))
    upstream.reply(chunk_delay_seconds=0.15)
    if stream:
        with pytest.raises(UpstreamFailed, match="did not answer in time"):
            await text(Dispatch(client, Patience(total_seconds=0.4)), call(upstream, stream=True))
    upstream.clear()
    await settled(upstream)


async def test_an_address_that_always_fails_is_left_alone_for_a_while(client: Client, upstream: StandIn) -> None:
    dispatch = Dispatch(client, Patience(tries=1, failures=3, rest_seconds=0.3))
    for _ in range(3):
        upstream.reply(status=500)
        with pytest.raises(UpstreamFailed):
            await text(dispatch, call(upstream))
    with pytest.raises(Unavailable, match="3 calls in a row") as caught:
        await text(dispatch, call(upstream))
    assert caught.value.origin == "OpenAI"
    assert len(upstream.requests) == 3
    await asyncio.sleep(0.4)
    assert await text(dispatch, call(upstream)) == "Fine, thank you."
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_refusals_do_not_count_against_an_address(client: Client, upstream: StandIn) -> None:
    dispatch = Dispatch(client, Patience(tries=1, failures=2))
    for status in (400, 401, 429, 404, 400):
        upstream.reply(status=status)
        with pytest.raises((Invalid, Problem)):
            await text(dispatch, call(upstream))
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_so_many_calls_at_a_time_and_no_more(client: Client, upstream: StandIn) -> None:
    dispatch = Dispatch(client, Patience(at_once=2))
    for _ in range(6):
        upstream.reply(delay_seconds=0.1)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(upstream.requests) - done)
            await asyncio.sleep(0.005)

    done = 0

    async def one() -> None:
        nonlocal done
        await text(dispatch, call(upstream))
        done += 1

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(one() for _ in range(6)))
    watcher.cancel()
    assert most == 2


async def test_who_finds_no_place_is_told(client: Client, upstream: StandIn) -> None:
    dispatch = Dispatch(client, Patience(at_once=1, place_seconds=0.1))
    upstream.reply(delay_seconds=0.6)
    first = asyncio.create_task(text(dispatch, call(upstream)))
    await asyncio.sleep(0.05)
    with pytest.raises(Unavailable, match="Too many calls"):
        await text(dispatch, call(upstream))
    assert await first == "Fine, thank you."
    assert len(upstream.requests) == 1


async def test_who_leaves_frees_the_place_and_the_connection(client: Client, upstream: StandIn) -> None:
    dispatch = Dispatch(client, Patience(at_once=1))
    for _ in range(5):
        upstream.reply(content="word " * 200, chunk_delay_seconds=0.01)
        stream = dispatch.stream(call(upstream, stream=True))
        await anext(stream)
        await stream.aclose()
    await settled(upstream)
    assert upstream.open_connections <= 1
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_serves_one_call_after_the_other(client: Client, upstream: StandIn, stream: bool) -> None:
    before = upstream.connections
    for _ in range(5):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert upstream.connections == before + 1
