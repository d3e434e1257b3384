"""Malicious and broken servers: each response ends in an error of its own, quickly and with bounded memory."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from services.generation.models.request import ModelRequest
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import CallProgress, Dispatch, RetryPolicy
from services.generation.providers.transport import client as client_module
from services.generation.providers.transport import response
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, UpstreamFailed
from tests.fake_servers.web import FakeWebServer, WebRequest, WebResponse, json_response, serve

CHAT = "/v1/chat/completions"
CHOICE: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "half an"}}


@pytest.fixture
def web() -> Iterator[FakeWebServer]:
    with serve() as web:
        yield web


@pytest.fixture
async def dispatch() -> AsyncIterator[Dispatch]:
    client = Client(5.0, {})
    yield Dispatch(client, RetryPolicy(wait_initial_seconds=0.01))
    await client.close()


def call(web: FakeWebServer, *, stream: bool = False, **config: Any) -> PreparedRequest:
    given = {"model": "gpt-4", "endpoint": "chat"} | config
    request = ModelRequest(
        ModelConfig.model_validate(given), messages=[ChatMessage(role="user", content="hi")], stream=stream
    )
    environment = {
        "OPENAI_BASE_URL": f"{web.url}/v1",
        "OPENAI_API_KEY": "sk-1",
        "REPLICATE_BASE_URL": f"{web.url}/v1",
        "REPLICATE_API_TOKEN": "r8",
    }
    return Providers(environment, None).prepare(request, {})[0]


async def ask(dispatch: Dispatch, call: PreparedRequest) -> str:
    if not call.request.stream:
        return (await dispatch.complete("tm_1", call, CallProgress())).choices[0].text
    return "".join([chunk.text async for chunk in dispatch.stream("tm_1", call, CallProgress())])


both = pytest.mark.parametrize("stream", [False, True])


@both
async def test_a_compressed_response_is_not_decompressed(dispatch: Dispatch, web: FakeWebServer, stream: bool) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    web.responses[CHAT] = WebResponse(bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(UpstreamFailed, match="compressed"):
        await ask(dispatch, call(web, stream=stream))
    assert web.requests[-1].headers["accept-encoding"] == "identity"
    assert len(web.requests) == 1


@both
async def test_a_response_over_the_limit_is_cut_off(
    dispatch: Dispatch, web: FakeWebServer, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "MAX_RESPONSE_BYTES", 100_000)
    line = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 1000}}]}).encode() + b"\n\n"
    web.responses[CHAT] = WebResponse(line * 200)
    with pytest.raises(UpstreamFailed, match="more than 100,000 bytes"):
        await ask(dispatch, call(web, stream=stream))


async def test_what_is_passed_on_of_a_long_stream_needs_no_memory(dispatch: Dispatch, web: FakeWebServer) -> None:
    line = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 200_000}}]}).encode() + b"\n\n"
    web.responses[CHAT] = WebResponse(line * 150 + b"data: [DONE]\n\n")
    calls = [ask(dispatch, call(web, stream=True)) for _ in range(4)]
    assert [len(answer) for answer in await asyncio.gather(*calls)] == [30_000_000] * 4


async def test_large_answers_at_once_wait_for_each_other(dispatch: Dispatch, web: FakeWebServer) -> None:
    choice = CHOICE | {"message": {"role": "assistant", "content": "x" * 30_000_000}}
    web.responses[CHAT] = json_response({"id": "x", "choices": [choice]})
    answers = await asyncio.gather(*(ask(dispatch, call(web)) for _ in range(4)))
    assert [len(answer) for answer in answers] == [30_000_000] * 4


async def test_a_line_over_the_limit_is_cut_off(dispatch: Dispatch, web: FakeWebServer) -> None:
    web.responses[CHAT] = WebResponse(b"data: " + b"x" * 5_000_000)
    with pytest.raises(UpstreamFailed, match="stream that cannot be read"):
        await ask(dispatch, call(web, stream=True))


async def test_bytes_that_are_no_utf8_do_not_end_an_answer(dispatch: Dispatch, web: FakeWebServer) -> None:
    begun = {"id": "p", "status": "starting", "urls": {"get": f"{web.url}/get", "stream": f"{web.url}/stream"}}
    web.responses["/v1/models/a/b/predictions"] = json_response(begun, 201)
    web.responses["/stream"] = WebResponse(
        b"event: output\ndata: a\xff\xfeb\n\nevent: done\ndata: {}\n\n", headers={"Content-Type": "text/event-stream"}
    )
    assert await ask(dispatch, call(web, stream=True, provider="replicate", model="a/b")) == "a\ufffd\ufffdb"


@pytest.mark.parametrize("error", [{"error": {"message": "it broke"}}, {"choice": {"error": {"message": "it broke"}}}])
@both
async def test_an_error_beside_an_answer_is_raised(
    dispatch: Dispatch, web: FakeWebServer, stream: bool, error: dict[str, Any]
) -> None:
    choice = CHOICE | {"finish_reason": "error", "delta": {"content": "half an"}} | error.get("choice", {})
    counts = {"prompt_tokens": 9, "completion_tokens": 4}
    payload = {"id": "x", "choices": [choice], "usage": counts}
    payload |= {"error": error["error"]} if "error" in error else {}
    body = json.dumps(payload).encode()
    web.responses[CHAT] = WebResponse(b"data: " + body + b"\n\ndata: [DONE]\n\n" if stream else body)
    with pytest.raises(UpstreamFailed, match="it broke") as caught:
        await ask(dispatch, call(web, stream=stream))
    assert len(web.requests) == 1
    sent = errors.partial_response(caught.value)
    assert sent
    assert sent.usage == Usage(prompt_tokens=9, generation_tokens=4, total_tokens=13)
    assert [(it.text, it.finish_reason) for it in sent.choices] == ([] if stream else [("half an", None)])


@pytest.mark.parametrize(
    ("content", "text"), [(5, "5"), (True, "true"), ({"a": 1}, '{"a": 1}'), ([1, {"text": "a"}], "1a")]
)
@both
async def test_content_that_is_not_text_is_read_as_its_json(
    dispatch: Dispatch, web: FakeWebServer, stream: bool, content: Any, text: str
) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": content}, "delta": {"content": content}}
    body = json.dumps({"choices": [choice]}).encode()
    web.responses[CHAT] = WebResponse(b"data: " + body + b"\n\ndata: [DONE]\n\n" if stream else body)
    assert await ask(dispatch, call(web, stream=stream)) == text


@pytest.mark.parametrize(
    "part", [{"function": {"name": "f", "arguments": {"a": 1}}}, {"id": 5}, {"index": "0"}, 7, None]
)
@both
async def test_odd_tool_calls_do_not_end_an_answer(
    dispatch: Dispatch, web: FakeWebServer, stream: bool, part: Any
) -> None:
    said = {"content": "text", "tool_calls": [part]}
    body = json.dumps({"choices": [{"index": 0, "delta": said, "message": said}]}).encode()
    web.responses[CHAT] = WebResponse(b"data: " + body + b"\n\ndata: [DONE]\n\n" if stream else body)
    assert await ask(dispatch, call(web, stream=stream)) == "text"


@pytest.mark.parametrize("usage", [[1], "many", {"prompt_tokens": 10**400}, {"prompt_tokens": -1}])
@both
async def test_malformed_usage_does_not_spoil_a_response(
    dispatch: Dispatch, web: FakeWebServer, stream: bool, usage: Any
) -> None:
    choice = CHOICE | {"delta": {"content": "half an"}}
    body = json.dumps({"choices": [choice], "usage": usage}).encode()
    web.responses[CHAT] = WebResponse(b"data: " + body + b"\n\ndata: [DONE]\n\n" if stream else body)
    assert await ask(dispatch, call(web, stream=stream)) == "half an"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (WebResponse(b"\x1f\x8b\x08", 429, {"Content-Encoding": "gzip", "Retry-After": "99"}), RateLimited),
        (WebResponse(b"\x1f\x8b\x08", 401, {"Content-Encoding": "gzip"}), Unauthenticated),
    ],
)
async def test_an_error_status_counts_even_if_its_body_cannot_be_read(
    dispatch: Dispatch, web: FakeWebServer, answer: WebResponse, kind: type[Problem]
) -> None:
    web.responses[CHAT] = answer
    progress = CallProgress()
    with pytest.raises(kind):
        await dispatch.complete("tm_1", call(web), progress)
    assert not progress.may_have_cost


async def test_finish_reason_error_is_raised(dispatch: Dispatch, web: FakeWebServer) -> None:
    web.responses[CHAT] = json_response({"choices": [CHOICE | {"finish_reason": "error"}]})
    with pytest.raises(UpstreamFailed, match="ended in an error"):
        await ask(dispatch, call(web))


@pytest.mark.parametrize("refusals", [2, 99])
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_prediction_is_never_created_twice(
    dispatch: Dispatch, web: FakeWebServer, status: int, refusals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_POLL_SECONDS", 0.01)
    urls = {"get": f"{web.url}/get", "cancel": f"{web.url}/cancel"}
    web.responses["/v1/models/a/b/predictions"] = json_response({"id": "p", "status": "starting", "urls": urls}, 201)
    web.responses["/cancel"] = json_response({})

    def told(_: WebRequest) -> WebResponse:
        polls = sum(one.path == "/get" for one in web.requests)
        if polls <= refusals:
            return json_response({"detail": "busy"}, status)
        return json_response({"id": "p", "status": "succeeded", "output": ["done"], "urls": urls})

    web.responses["/get"] = told
    prepared_call = call(web, provider="replicate", model="a/b")
    if refusals == 2:
        assert await ask(dispatch, prepared_call) == "done"
        assert web.requests[-1].path == "/get"
    else:
        with pytest.raises(UpstreamFailed, match="could not be fetched"):
            await ask(dispatch, prepared_call)
        assert web.requests[-1].path == "/cancel"
    assert sum(one.path.endswith("/predictions") for one in web.requests) == 1


@pytest.mark.parametrize("which", ["get", "cancel"])
async def test_a_prediction_with_an_invalid_url_is_never_created_twice(
    dispatch: Dispatch, web: FakeWebServer, which: str
) -> None:
    urls = {"get": f"{web.url}/get", "cancel": f"{web.url}/cancel"}
    urls[which] += "\u0001"
    web.responses["/v1/models/a/b/predictions"] = json_response({"id": "p", "status": "starting", "urls": urls}, 201)
    web.responses["/get"] = WebResponse(b"{}", delay_seconds=2.0)
    progress = CallProgress()
    asking = asyncio.create_task(dispatch.complete("tm_1", call(web, provider="replicate", model="a/b"), progress))
    if which == "cancel":
        await asyncio.sleep(0.9)
        asking.cancel()
    with pytest.raises(asyncio.CancelledError if which == "cancel" else UpstreamFailed):
        await asking
    assert progress.may_have_cost
    assert sum(one.path.endswith("/predictions") for one in web.requests) == 1


@pytest.mark.parametrize("answer", [b"[" * 190 + b"]" * 190, b"[" + b"[]," * 2_000_000 + b"[]]"])
async def test_json_beyond_the_limits_is_an_invalid_response(
    dispatch: Dispatch, web: FakeWebServer, answer: bytes
) -> None:
    web.responses[CHAT] = WebResponse(b'{"choices": [' + json.dumps(CHOICE).encode() + b'], "more": ' + answer + b"}")
    with pytest.raises(UpstreamFailed, match="cannot be read"):
        await ask(dispatch, call(web))


async def test_a_prediction_is_polled_with_pauses(dispatch: Dispatch, web: FakeWebServer) -> None:
    urls = {"get": f"{web.url}/get", "stream": f"{web.url}/stream", "cancel": f"{web.url}/cancel"}
    pending = {"id": "p", "status": "processing", "urls": urls}
    web.responses["/v1/models/a/b/predictions"] = json_response(pending, 201)
    web.responses["/stream"] = json_response(pending)
    web.responses["/cancel"] = json_response({})
    stream = dispatch.stream("tm_1", call(web, stream=True, provider="replicate", model="a/b"), CallProgress())
    started = time.monotonic()

    def ended(_: WebRequest) -> WebResponse:
        if time.monotonic() - started < 2.5:
            return json_response(pending)
        return json_response(pending | {"status": "failed", "error": "gave up"})

    web.responses["/stream"] = ended
    with pytest.raises(Problem, match="gave up"):
        await anext(stream)
    assert len(web.requests) < 10


async def test_an_invalid_host_is_refused_as_invalid(dispatch: Dispatch) -> None:
    given = {"openai_azure": "k", "openai_azure_endpoint": "https://xn--.openai.azure.com"}
    config = ModelConfig(provider="openai_azure", model="gpt-4o", endpoint="chat")
    request = ModelRequest(config, messages=[ChatMessage(role="user", content="hi")])
    (prepared,) = Providers({}, None).prepare(request, given)
    with pytest.raises(Invalid, match="no address"):
        await dispatch.complete("tm_1", prepared, CallProgress())
