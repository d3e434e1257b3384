"""Concurrency, circuit breaker, retries and timeouts of calls to a server that misbehaves."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
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
from shared.contracts.generation.projects import ModelConfig
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
    (prepared,) = Providers({"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-1"}, None).prepare(request, {})
    return prepared


async def text(
    dispatch: Dispatch, call: PreparedRequest, organisation: str = ORGANISATION, progress: CallProgress | None = None
) -> str:
    progress = progress or CallProgress()
    if not call.request.stream:
        completion: ModelResponse = await dispatch.complete(organisation, call, progress)
        return completion.choices[0].text
    return "".join([chunk.text async for chunk in dispatch.stream(organisation, call, progress)])


async def wait_for_streams(upstream: FakeServer) -> None:
    """Wait until no response is being written any more."""
    deadline = time.monotonic() + 5
    while upstream.streaming and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread makes it true
        await asyncio.sleep(0.01)
    assert upstream.streaming == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_overload_and_server_errors_are_retried(
    client: Client, upstream: FakeServer, status: int, stream: bool
) -> None:
    upstream.reply(status=status)
    upstream.reply(status=status)
    assert (await text(Dispatch(client, QUICK), call(upstream, stream=stream))).strip() == "Fine, thank you."
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_the_error_of_the_last_attempt_is_raised(client: Client, upstream: FakeServer, stream: bool) -> None:
    for number in range(3):
        upstream.reply(status=500, error={"message": f"failure {number}"})
    with pytest.raises(UpstreamFailed, match="failure 2"):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_client_errors_are_not_retried(client: Client, upstream: FakeServer, status: int) -> None:
    upstream.reply(status=status)
    with pytest.raises(Problem):
        await text(Dispatch(client, QUICK), call(upstream))
    assert len(upstream.requests) == 1


async def test_retry_after_is_honoured(client: Client, upstream: FakeServer) -> None:
    upstream.reply(status=429, headers={"Retry-After": "0.4"})
    started = time.monotonic()
    await text(Dispatch(client, QUICK), call(upstream))
    assert time.monotonic() - started >= 0.4


async def test_a_long_retry_after_is_passed_on_to_the_caller(client: Client, upstream: FakeServer) -> None:
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
async def test_a_call_that_may_have_cost_something_is_not_retried(
    client: Client, upstream: FakeServer, reply: dict[str, Any], stream: bool
) -> None:
    upstream.reply(**reply)
    with pytest.raises(UpstreamFailed):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert len(upstream.requests) == 1
    await wait_for_streams(upstream)


async def test_a_failed_connection_is_retried(client: Client) -> None:
    unreachable = FakeServer(url="http://127.0.0.1:9/v1")
    retry_policy = RetryPolicy(wait_initial_seconds=0.01, tries=2)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await text(Dispatch(client, retry_policy), call(unreachable))


@pytest.mark.parametrize("stream", [False, True])
async def test_the_total_timeout_ends_a_call(client: Client, upstream: FakeServer, stream: bool) -> None:
    upstream.reply(delay_seconds=1.0)
    with pytest.raises(UpstreamFailed, match="did not answer in time"):
        await text(Dispatch(client, RetryPolicy(total_seconds=0.2)), call(upstream, stream=stream))
    upstream.reply(chunk_delay_seconds=0.15)
    if stream:
        with pytest.raises(UpstreamFailed, match="did not answer in time"):
            await text(Dispatch(client, RetryPolicy(total_seconds=0.4)), call(upstream, stream=True))
    upstream.clear()
    await wait_for_streams(upstream)


async def dispatch_with_open_circuit(client: Client, upstream: FakeServer, **retry_policy: Any) -> Dispatch:
    """Return a dispatch with a circuit that three failures have just dispatch_with_open_circuit."""
    dispatch = Dispatch(client, RetryPolicy(tries=1, failure_threshold=3, open_seconds=0.3, **retry_policy))
    for _ in range(3):
        upstream.reply(status=500)
        with pytest.raises(UpstreamFailed):
            await text(dispatch, call(upstream))
    return dispatch


async def test_a_model_that_always_fails_opens_its_circuit_for_a_while(client: Client, upstream: FakeServer) -> None:
    dispatch, progress = await dispatch_with_open_circuit(client, upstream), CallProgress()
    with pytest.raises(Unavailable, match="3 calls in a row") as caught:
        await text(dispatch, call(upstream), progress=progress)
    assert caught.value.origin == "OpenAI"
    assert caught.value.retry_after_seconds == pytest.approx(0.3, abs=0.2)
    assert not progress.may_have_cost
    assert len(upstream.requests) == 3
    await asyncio.sleep(0.4)
    assert await text(dispatch, call(upstream)) == "Fine, thank you."
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_other_organisations_and_models_keep_their_circuits_closed(client: Client, upstream: FakeServer) -> None:
    dispatch = await dispatch_with_open_circuit(client, upstream)
    assert await text(dispatch, call(upstream), "tm_2") == "Fine, thank you."
    assert await text(dispatch, call(upstream, model="gpt-4o")) == "Fine, thank you."
    with pytest.raises(Unavailable):
        await text(dispatch, call(upstream))


async def test_a_half_open_circuit_lets_one_trial_call_through(client: Client, upstream: FakeServer) -> None:
    dispatch = await dispatch_with_open_circuit(client, upstream)
    await asyncio.sleep(0.4)
    upstream.reply(status=500, delay_seconds=0.1)
    results = await asyncio.gather(*(text(dispatch, call(upstream)) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [UpstreamFailed, *[Unavailable] * 4]
    assert len(upstream.requests) == 4


async def test_a_cancelled_trial_call_does_not_close_the_circuit(client: Client, upstream: FakeServer) -> None:
    dispatch = await dispatch_with_open_circuit(client, upstream)
    await asyncio.sleep(0.4)
    upstream.reply(delay_seconds=1.0)
    cancelled = asyncio.create_task(text(dispatch, call(upstream)))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    with pytest.raises(Unavailable):
        await text(dispatch, call(upstream))
    await asyncio.sleep(0.4)
    upstream.clear()
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_client_errors_do_not_open_the_circuit(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(tries=1, failure_threshold=2))
    for status in (400, 401, 429, 404, 429, 429):
        upstream.reply(status=status)
        with pytest.raises((Invalid, Problem)):
            await text(dispatch, call(upstream))
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


async def test_invalid_responses_and_queue_timeouts_do_not_open_the_circuit(
    client: Client, upstream: FakeServer
) -> None:
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


async def test_an_in_process_provider_has_no_circuit() -> None:
    client = Client(5.0, IN_PROCESS)
    dispatch = Dispatch(client, RetryPolicy(tries=1, failure_threshold=2))
    config = ModelConfig(provider="mock", model="mock-error-500", endpoint="chat")
    request = ModelRequest(config, messages=[ChatMessage(role="user", content="hi")])
    (prepared,) = Providers({}, None).prepare(request, {})
    for _ in range(4):
        with pytest.raises(UpstreamFailed, match="as asked"):
            await text(dispatch, prepared)


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
async def test_progress_tells_whether_a_call_may_have_cost_something(
    client: Client, upstream: FakeServer, reply: dict[str, Any], cost: bool, stream: bool
) -> None:
    upstream.reply(**reply)
    progress = CallProgress()
    with suppress(Problem):
        await text(Dispatch(client, RetryPolicy(tries=1)), call(upstream, stream=stream), progress=progress)
    assert progress.may_have_cost == cost


async def test_a_refused_attempt_does_not_undo_what_an_earlier_one_may_have_cost(
    client: Client, upstream: FakeServer
) -> None:
    for status in (500, 429, 429):
        upstream.reply(status=status)
    progress = CallProgress()
    with pytest.raises(RateLimited):
        await text(Dispatch(client, QUICK), call(upstream), progress=progress)
    assert progress.may_have_cost


async def test_a_call_cancelled_while_connecting_has_sent_nothing(client: Client) -> None:
    with socket.socket() as full:  # a server whose queue of connections is full answers no more of them
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        progress = CallProgress()
        unreachable = FakeServer(url=f"http://127.0.0.1:{full.getsockname()[1]}/v1")
        cancelled = asyncio.create_task(text(Dispatch(client, QUICK), call(unreachable), progress=progress))
        await asyncio.sleep(0.2)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        for one in waiting:
            one.close()
    assert not progress.may_have_cost


async def test_the_log_of_a_retry_has_no_message_of_the_provider(
    client: Client, upstream: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stamina.instrumentation.set_on_retry_hooks([log_retry])
    caplog.set_level("INFO")
    upstream.reply(status=500, error={"message": "a secret"})
    await text(Dispatch(client, QUICK), call(upstream))
    assert "OpenAI: upstream_error, once more in" in caplog.text
    assert "secret" not in caplog.text


async def test_concurrent_calls_to_an_address_are_limited(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(max_concurrency=2))
    for _ in range(6):
        upstream.reply(delay_seconds=0.1)
    max_concurrency_seen = 0

    async def watch() -> None:
        nonlocal max_concurrency_seen
        while True:
            max_concurrency_seen = max(max_concurrency_seen, len(upstream.requests) - done)
            await asyncio.sleep(0.005)

    done = 0

    async def one() -> None:
        nonlocal done
        await text(dispatch, call(upstream))
        done += 1

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(one() for _ in range(6)))
    watcher.cancel()
    assert max_concurrency_seen == 2


async def test_a_call_that_gets_no_slot_in_time_is_refused(client: Client, upstream: FakeServer) -> None:
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


async def test_an_organisation_gets_three_quarters_of_the_slots(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(max_concurrency=4, queue_timeout_seconds=0.05))
    for _ in range(3):
        upstream.reply(delay_seconds=0.6)
    slow = [asyncio.create_task(text(dispatch, call(upstream))) for _ in range(3)]
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable, match="Too many"):
        await text(dispatch, call(upstream))
    assert await text(dispatch, call(upstream), "tm_2") == "Fine, thank you."
    assert await asyncio.gather(*slow) == ["Fine, thank you."] * 3


async def test_a_closed_stream_frees_its_slot_and_its_connection(client: Client, upstream: FakeServer) -> None:
    dispatch = Dispatch(client, RetryPolicy(max_concurrency=1))
    for _ in range(5):
        upstream.reply(content="word " * 200, chunk_delay_seconds=0.01)
        stream = dispatch.stream(ORGANISATION, call(upstream, stream=True), CallProgress())
        await anext(stream)
        await stream.aclose()
    await wait_for_streams(upstream)
    assert upstream.open_connections <= 1
    assert await text(dispatch, call(upstream)) == "Fine, thank you."


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_serves_consecutive_calls(client: Client, upstream: FakeServer, stream: bool) -> None:
    before = upstream.connections
    for _ in range(5):
        await text(Dispatch(client, QUICK), call(upstream, stream=stream))
    assert upstream.connections == before + 1


async def test_a_stream_that_is_not_read_is_not_read_from_its_provider(client: Client) -> None:
    written = 0
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "' + b"x" * 1000 + b'"}}]}\n\n'

    async def write_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(event)
                await writer.drain()
                written += len(event)
        writer.close()

    server = await asyncio.start_server(write_for_ever, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    config = ModelConfig(model="gpt-4", endpoint="chat")
    request = ModelRequest(config, messages=[ChatMessage(role="user", content="hi")], stream=True)
    (prepared,) = Providers({"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-1"}, None).prepare(request, {})
    async with (
        asyncio.timeout(20),
        aclosing(Dispatch(client, QUICK).stream("tm_1", prepared, CallProgress())) as deltas,
    ):
        await anext(deltas)
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.3)
        for _ in range(written // len(event) + 10):  # it goes on when it is read
            await anext(deltas)
        assert written > before
    server.close()
