"""Calls with patience, against a server that misbehaves."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import stamina

from services.generation.models.request import ModelRequest, ModelResponse
from services.generation.providers.base import PreparedRequest
from services.generation.providers.registry import IN_PROCESS
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import CallProgress, Dispatch, RetryPolicy, log_retry
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid, Problem, RateLimited, Unavailable, UpstreamFailed
from tests.fake_servers import openai as fake_servers
from tests.fake_servers.server import FakeServer

ORGANISATION = "tm_1"
QUICK = RetryPolicy(wait_initial_seconds=0.01, open_seconds=0.3)


@pytest.fixture(scope="module")
def upstream() -> FakeServer:
    return fake_servers.start()


@pytest.fixture
async def client(upstream: FakeServer) -> AsyncIterator[Client]:
    upstream.clear()
    client = Client(5.0, {})
    yield client
    await client.close()


def call(upstream: FakeServer, *, stream: bool = False, model: str = "gpt-4") -> PreparedRequest:
    config = ModelConfig(model=model, endpoint="chat")
    request = ModelRequest(config, messages=[ChatMessage(role="user", content="hi")], stream=stream)
    (made,) = Providers({"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-1"}, None).prepare(request, {})
    return made


async def text(
    dispatch: Dispatch, call: PreparedRequest, organisation: str = ORGANISATION, progress: CallProgress | None = None
) -> str:
    progress = progress or CallProgress()
    if not call.request.stream:
        completion: ModelResponse = await dispatch.complete(organisation, call, progress)
        return completion.choices[0].text
    return "".join([chunk.text async for chunk in dispatch.stream(organisation, call, progress)])


async def settled(upstream: FakeServer) -> None:
    """No answer is being written any more, and no connection is open that nobody uses."""
    deadline = time.monotonic() + 5
    while upstream.streaming and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread makes it true
        await asyncio.sleep(0.01)
    assert upstream.streaming == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_load_and_defects_are_tried_again(
    client: Client, upstream: FakeServer, status: int, stream: bool
) -> None:
    upstream.reply(status=status)
    upstream.reply(status=status)
    assert (await text(Dispatch(client, QUICK), call(upstream, stream=stream))).strip() == "Fine, thank you."
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_refusal_is_told(client: Client, upstream: FakeServer, stream: bool) -> None:
    for number in range(3):
        upstream.reply(status=500, error={"message": f"failure {number}"})
    with pytest.raises(UpstreamFailed, match="failure 2"):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_would_be_refused_again_is_not_tried_again(
    client: Client, upstream: FakeServer, status: int
) -> None:
    upstream.reply(status=status)
    with pytest.raises(Problem):
        await text(Dispatch(client, QUICK), call(upstream))
    assert len(upstream.requests) == 1


async def test_retry_after_is_honoured(client: Client, upstream: FakeServer) -> None:
    upstream.reply(status=429, headers={"Retry-After": "0.4"})
    started = time.monotonic()
    await text(Dispatch(client, QUICK), call(upstream))
    assert time.monotonic() - started >= 0.4


async def test_a_wait_too_long_is_the_callers_to_decide(client: Client, upstream: FakeServer) -> None:
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
    client: Client, upstream: FakeServer, reply: dict[str, Any], stream: bool
) -> None:
    upstream.reply(**reply)
    with pytest.raises(UpstreamFailed):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert len(upstream.requests) == 1
    await settled(upstream)


async def test_a_provider_that_is_not_there_is_tried_again(client: Client) -> None:
    nobody = FakeServer(url="http://127.0.0.1:9/v1")
    retry_policy = RetryPolicy(wait_initial_seconds=0.01, tries=2)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await text(Dispatch(client, retry_policy), call(nobody))


@pytest.mark.parametrize("stream", [False, True])
async def test_waiting_has_an_end(client: Client, upstream: FakeServer, stream: bool) -> None:
    upstream.reply(delay_seconds=1.0)
    with pytest.raises(UpstreamFailed, match="did not answer in time"):
        await text(Dispatch(client, RetryPolicy(total_seconds=0.2)), call(upstream, stream=stream))
    upstream.reply(chunk_delay_seconds=0.15)
    if stream:
        with pytest.raises(UpstreamFailed, match="did not answer in time"):
            await text(Dispatch(client, RetryPolicy(total_seconds=0.4)), call(upstream, stream=True))
    upstream.clear()
    await settled(upstream)


async def opened(client: Client, upstream: FakeServer, **retry_policy: Any) -> Dispatch:
    """With a circuit that three failures have just opened."""
    dispatch = Dispatch(client, RetryPolicy(tries=1, failure_threshold=3, open_seconds=0.3, **retry_policy))
    for _ in range(3):
        upstream.reply(status=500)
        with pytest.raises(UpstreamFailed):
            await text(dispatch, call(upstream))
    return dispatch


async def test_a_model_that_always_fails_is_left_alone_for_a_while(client: Client, upstream: FakeServer) -> None:
    dispatch, progress = await opened(client, upstream), CallProgress()
    with pytest.raises(Unavailable, match="3 calls in a row") as caught:
        await text(dispatch, call(upstream), progress=progress)
    assert caught.value.origin == "OpenAI"
    assert caught.value.retry_after_seconds == pytest.approx(0.3, abs=0.2)
    assert not progress.may_have_cost
    assert len(upstream.requests) == 3
    await asyncio.sleep(0.4)
    assert await text(dispatch, call(upstream)) == "Fine, thank you."
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_others_are_not_left_alone(client: Client, upstream: FakeServer) -> None:
    dispatch = await opened(client, upstream)
    assert await text(dispatch, call(upstream), "tm_2") == "Fine, thank you."
    assert await text(dispatch, call(upstream, model="gpt-4o")) == "Fine, thank you."
    with pytest.raises(Unavailable):
        await text(dispatch, call(upstream))


async def test_after_the_rest_one_call_tries_and_the_others_wait_for_it(client: Client, upstream: FakeServer) -> None:
    dispatch = await opened(client, upstream)
    await asyncio.sleep(0.4)
    upstream.reply(status=500, delay_seconds=0.1)
    results = await asyncio.gather(*(text(dispatch, call(upstream)) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [UpstreamFailed, *[Unavailable] * 4]
    assert len(upstream.requests) == 4


async def test_a_try_that_nobody_waited_for_says_nothing(client: Client, upstream: FakeServer) -> None:
    dispatch = await opened(client, upstream)
    await asyncio.sleep(0.4)
    upstream.reply(delay_seconds=1.0)
    left = asyncio.create_task(text(dispatch, call(upstream)))
    await asyncio.sleep(0.1)
    left.cancel()
    with pytest.raises(Unavailable):
        await text(dispatch, call(upstream))
    await asyncio.sleep(0.4)
    upstream.clear()
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_refusals_do_not_count_against_a_model(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(tries=1, failure_threshold=2))
    for status in (400, 401, 429, 404, 429, 429):
        upstream.reply(status=status)
        with pytest.raises((Invalid, Problem)):
            await text(dispatch, call(upstream))
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_what_the_call_itself_may_have_brought_about_does_not_count(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(
        client, RetryPolicy(tries=1, failure_threshold=2, max_concurrency=1, queue_timeout_seconds=0.01)
    )
    for _ in range(3):
        upstream.reply(garbage=True)
        with pytest.raises(UpstreamFailed):
            await text(dispatch, call(upstream))
    upstream.reply(delay_seconds=0.3)
    slow = asyncio.create_task(text(dispatch, call(upstream)))
    await asyncio.sleep(0.05)
    for _ in range(3):
        with pytest.raises(Unavailable, match="Too many"):
            await text(dispatch, call(upstream))
    assert await slow == "Fine, thank you."
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_a_provider_that_fails_as_it_is_asked_to_goes_on_failing() -> None:
    client = Client(5.0, IN_PROCESS)
    dispatch = Dispatch(client, RetryPolicy(tries=1, failure_threshold=2))
    config = ModelConfig(provider="mock", model="mock-error-500", endpoint="chat")
    request = ModelRequest(config, messages=[ChatMessage(role="user", content="hi")])
    (made,) = Providers({}, None).prepare(request, {})
    for _ in range(4):
        with pytest.raises(UpstreamFailed, match="as asked"):
            await text(dispatch, made)


@pytest.mark.parametrize(
    ("reply", "cost"),
    [
        ({}, True),
        ({"status": 400}, False),
        ({"status": 429}, False),
        ({"status": 503}, False),
        ({"status": 500}, True),
        ({"garbage": True}, True),
        ({"break_after_chunks": 0}, True),
    ],
    ids=["answered", "refused", "limited", "overloaded", "failed", "garbage", "died"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_who_asks_knows_whether_it_may_have_cost_something(
    client: Client, upstream: FakeServer, reply: dict[str, Any], cost: bool, stream: bool
) -> None:
    upstream.reply(**reply)
    progress = CallProgress()
    with suppress(Problem):
        await text(Dispatch(client, RetryPolicy(tries=1)), call(upstream, stream=stream), progress=progress)
    assert progress.may_have_cost == cost


async def test_what_a_try_may_have_cost_a_later_refusal_does_not_undo(client: Client, upstream: FakeServer) -> None:
    for status in (500, 429, 429):
        upstream.reply(status=status)
    progress = CallProgress()
    with pytest.raises(RateLimited):
        await text(Dispatch(client, QUICK), call(upstream), progress=progress)
    assert progress.may_have_cost


async def test_who_leaves_before_there_is_a_connection_has_sent_nothing(client: Client) -> None:
    with socket.socket() as full:  # a server whose queue of connections is full answers no more of them
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        progress = CallProgress()
        nobody = FakeServer(url=f"http://127.0.0.1:{full.getsockname()[1]}/v1")
        left = asyncio.create_task(text(Dispatch(client, QUICK), call(nobody), progress=progress))
        await asyncio.sleep(0.2)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        for one in waiting:
            one.close()
    assert not progress.may_have_cost


async def test_our_log_has_no_words_of_a_provider(
    client: Client, upstream: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stamina.instrumentation.set_on_retry_hooks([log_retry])
    caplog.set_level("INFO")
    upstream.reply(status=500, error={"message": "a secret"})
    await text(Dispatch(client, QUICK), call(upstream))
    assert "OpenAI: upstream_error, once more in" in caplog.text
    assert "secret" not in caplog.text


async def test_so_many_calls_at_a_time_and_no_more(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(max_concurrency=2))
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


async def test_who_finds_no_place_is_told(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(max_concurrency=1, queue_timeout_seconds=0.1))
    upstream.reply(delay_seconds=0.6)
    first = asyncio.create_task(text(dispatch, call(upstream)))
    await asyncio.sleep(0.05)
    progress = CallProgress()
    with pytest.raises(Unavailable, match="Too many calls"):
        await text(dispatch, call(upstream), progress=progress)
    assert not progress.may_have_cost
    assert await first == "Fine, thank you."
    assert len(upstream.requests) == 1


async def test_an_organisation_leaves_places_for_the_others(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(max_concurrency=4, queue_timeout_seconds=0.05))
    for _ in range(3):
        upstream.reply(delay_seconds=0.6)
    slow = [asyncio.create_task(text(dispatch, call(upstream))) for _ in range(3)]
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable, match="Too many"):
        await text(dispatch, call(upstream))
    assert await text(dispatch, call(upstream), "tm_2") == "Fine, thank you."
    assert await asyncio.gather(*slow) == ["Fine, thank you."] * 3


async def test_who_leaves_frees_the_place_and_the_connection(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(max_concurrency=1))
    for _ in range(5):
        upstream.reply(content="word " * 200, chunk_delay_seconds=0.01)
        stream = dispatch.stream(ORGANISATION, call(upstream, stream=True), CallProgress())
        await anext(stream)
        await stream.aclose()
    await settled(upstream)
    assert upstream.open_connections <= 1
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_serves_one_call_after_the_other(client: Client, upstream: FakeServer, stream: bool) -> None:
    before = upstream.connections
    for _ in range(5):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert upstream.connections == before + 1
