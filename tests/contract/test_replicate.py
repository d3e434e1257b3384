"""Replicate's own client library, against its fake server, and against what this service sends."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from replicate.client import Client as Library

from services.generation.models.request import ModelRequest
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import UpstreamFailed
from tests.fake_servers import replicate as fake
from tests.fake_servers.server import FakeServer

MODEL = "meta/meta-llama-3-70b-instruct"
VERSION = f"{MODEL}:{'a1' * 32}"


@pytest.fixture(scope="module")
def fake_server() -> FakeServer:
    return fake.start()


@pytest.fixture
def library(fake_server: FakeServer) -> Iterator[Library]:
    fake_server.clear()
    client = Library(api_token="r8-test", base_url=fake_server.url.removesuffix("/v1"))
    client.poll_interval = 0.01
    yield client
    client._client.close()


def _request(model: str = MODEL, **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate(
        {"provider": "replicate", "model": model, "endpoint": "chat", "max_tokens": 50, "stop": ["###", "END"]}
    )
    messages = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Hi")]
    return ModelRequest(config, messages, seed=7, **fields)


def _predict(library: Library, model: str, inputs: dict[str, Any], *, wait: bool = True) -> Any:
    name, _, version = model.partition(":")
    if version:
        return library.predictions.create(version=version, input=inputs, wait=wait)
    return library.models.predictions.create(model=name, input=inputs, wait=wait)


def _calls(fake_server: FakeServer, request: ModelRequest) -> Any:
    return Providers({"REPLICATE_BASE_URL": fake_server.url, "REPLICATE_API_TOKEN": "r8-test"}, None).prepare(
        request, {}
    )[0]


@pytest.mark.parametrize("wait", [True, False], ids=["waited for", "polled"])
@pytest.mark.parametrize("model", [MODEL, VERSION])
def test_a_prediction(library: Library, fake_server: FakeServer, model: str, wait: bool) -> None:
    fake_server.reply(content="It rains in Oslo.")
    prediction = _predict(library, model, {"prompt": "Hi"}, wait=wait)
    prediction.wait()
    assert "".join(prediction.output) == "It rains in Oslo."
    assert prediction.metrics == {"input_token_count": 12, "output_token_count": 5}
    assert fake_server.requests[0].key == "r8-test"


def test_a_stream(library: Library, fake_server: FakeServer) -> None:
    fake_server.reply(content="Two\nlines, and  spaces ")
    events = list(library.stream(MODEL, input={"prompt": "Hi"}))
    assert [event.event.value for event in events][-1] == "done"
    assert "".join(map(str, events)) == "Two\nlines, and  spaces "


def test_an_error_status(library: Library, fake_server: FakeServer) -> None:
    fake_server.reply(status=422, error={"message": "prompt is required"})
    with pytest.raises(Exception, match="prompt is required"):
        library.run(MODEL, input={})


@pytest.mark.parametrize("model", [MODEL, VERSION])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_library_sends_the_same(library: Library, fake_server: FakeServer, model: str, stream: bool) -> None:
    call, client = _calls(fake_server, _request(model, stream=stream)), Client(5.0, {})
    if stream:
        assert [chunk async for chunk in client.stream(call)]
        await asyncio.to_thread(lambda: list(library.stream(model, input=call.body["input"])))
    else:
        await client.complete(call)
        await asyncio.to_thread(_predict, library, model, call.body["input"])
    await client.close()
    ours, theirs = (request for request in fake_server.requests if request.method == "POST")
    assert ours.body == theirs.body
    assert (ours.path, ours.key, ours.headers.get("prefer")) == (theirs.path, theirs.key, theirs.headers.get("prefer"))
    assert [request.headers["accept"] for request in fake_server.requests if request.method == "GET"] == (
        ["text/event-stream"] * 2 if stream else []
    )


async def test_an_abandoned_prediction_is_cancelled(fake_server: FakeServer) -> None:
    fake_server.clear()
    fake_server.reply(content="word " * 50, chunk_delay_seconds=0.01)
    client = Client(5.0, {})
    async with aclosing(client.stream(_calls(fake_server, _request(stream=True)))) as chunks:
        await anext(chunks)
    await client.close()
    begun, followed, cancelled = fake_server.requests
    assert (begun.method, followed.method, cancelled.method) == ("POST", "GET", "POST")
    assert cancelled.path == followed.path.replace("/stream/", "/predictions/") + "/cancel"


async def test_a_prediction_that_takes_long_is_polled(fake_server: FakeServer) -> None:
    fake_server.clear()
    client = Client(5.0, {})
    call = _calls(fake_server, _request())
    hasty = type(call)(**vars(call) | {"sign": None})  # as if Replicate had not waited
    completion = await client.complete(hasty)
    await client.close()
    assert completion.choices[0].text == "Fine, thank you."
    assert [request.method for request in fake_server.requests] == ["POST", "GET"]


async def test_output_at_another_host_is_not_fetched(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server.clear()
    whole = fake.Replicate._prediction

    def elsewhere(*args: Any) -> Any:
        return whole(*args) | {"urls": {"get": "https://replicate.com.evil.example/x", "cancel": None}}

    monkeypatch.setattr(fake.Replicate, "_prediction", elsewhere)
    client = Client(5.0, {})
    call = _calls(fake_server, _request())
    with pytest.raises(UpstreamFailed, match="address"):
        await client.complete(type(call)(**vars(call) | {"sign": None}))
    await client.close()
    assert len(fake_server.requests) == 1
