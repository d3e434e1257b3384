"""Streams of every wire language, however they are cut, framed and broken: through the client, on bytes."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.generation.models.request import Choice, ModelRequest, StreamAccumulator
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import CallProgress, Dispatch, RetryPolicy
from services.generation.providers.transport.client import Client
from services.generation.providers.transport.connections import ON_SENT, Connections
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, Unavailable, UpstreamFailed
from tests.fake_servers.anthropic import Anthropic
from tests.fake_servers.bedrock import Bedrock, event, exception
from tests.fake_servers.cohere import Cohere
from tests.fake_servers.gemini import Gemini
from tests.fake_servers.openai import OpenAI
from tests.fake_servers.replicate import Replicate
from tests.fake_servers.server import Json, RecordedRequest, Reply, sse

TEXT = "One ☂ two,\u2028three 😀."
ARGUMENTS = '{"city": "Tromsø 😀"}'
CALL = {"id": "callaaa01", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
FAKES: dict[str, Any] = {
    "openai": OpenAI(),
    "anthropic": Anthropic(),
    "bedrock": Bedrock(),
    "google": Gemini(),
    "cohere": Cohere(),
    "replicate": Replicate(),
}
MODELS = {"openai": "gpt-4o", "replicate": "a/b"}
KEYS = dict.fromkeys(
    (
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"),
        *("GEMINI_API_KEY", "COHERE_API_KEY", "REPLICATE_API_TOKEN"),
    ),
    "sk-secret-1",
)
every_language = pytest.mark.parametrize("provider", FAKES)
every_sse_language = pytest.mark.parametrize("provider", [name for name in FAKES if name != "bedrock"])


@dataclass
class Scripted(Connections):
    """Answers with the bodies it was given, in order and then the last one again, in the pieces they come in."""

    bodies: list[list[bytes]]
    stream_type: str = "text/event-stream"
    calls: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        request.extensions[ON_SENT]()
        pieces = self.bodies[min(self.calls, len(self.bodies) - 1)]
        self.calls += 1
        return httpx.Response(200, headers={"Content-Type": self.stream_type}, stream=_Pieces(pieces))

    async def aclose(self) -> None:
        """There is nothing to close."""


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def client(*bodies: list[bytes]) -> tuple[Client, Scripted]:
    made, scripted = Client(5.0, {}), Scripted(list(bodies))
    made._connections = scripted
    return made, scripted


def prepare(provider: str, *, stream: bool = True, **config: Any) -> PreparedRequest:
    parsed = ModelConfig(provider=provider, model=MODELS.get(provider, "m"), endpoint="chat", max_tokens=100, **config)
    request = ModelRequest(parsed, [ChatMessage(role="user", content="hi")], stream=stream)
    return Providers(KEYS, None).prepare(request, {})[0]


def events(provider: str, **reply: Any) -> list[bytes]:
    """The events of a stream as the fake server sends them."""
    calls: dict[str, Any] = {} if provider == "replicate" else {"tool_calls": [CALL]}
    prepared = prepare(provider)
    recorded = RecordedRequest("POST", httpx.URL(prepared.url).path, None, prepared.body)
    return list(FAKES[provider].stream_events(recorded, Reply(**{"content": TEXT} | calls | reply)))


async def read(provider: str, pieces: Iterable[bytes]) -> StreamAccumulator:
    accumulator = StreamAccumulator()
    async for delta in client(list(pieces))[0].stream(prepare(provider)):
        accumulator.add(delta)
    return accumulator


def said(accumulator: StreamAccumulator) -> tuple[str, list[tuple[str, str, Any]], str | None, Any]:
    choice = accumulator.choice()
    calls = [
        (call.id.partition("~")[0], call.function.name, json.loads(call.function.arguments or ""))
        for call in choice.tool_calls or ()
    ]
    return choice.text, calls, choice.finish_reason, accumulator.usage


@every_language
async def test_a_stream_is_the_same_wherever_it_is_cut(provider: str) -> None:
    raw = b"".join(events(provider))
    whole = said(await read(provider, [raw]))
    assert whole[0] == TEXT
    if provider != "replicate":
        assert whole[1] == [("callaaa01", "weather", json.loads(ARGUMENTS))]
    for cut in range(1, len(raw)):
        assert said(await read(provider, [raw[:cut], raw[cut:]])) == whole, cut
    assert said(await read(provider, [raw[at : at + 1] for at in range(len(raw))])) == whole


def _split_data(raw: bytes) -> bytes:
    """Break each JSON after its first comma into two lines of data."""
    return b"".join(
        line.replace(b", ", b", \ndata: ", 1) if line.startswith(b"data: {") else line
        for line in raw.splitlines(keepends=True)
    )


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "a byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "CR and LF": lambda raw: raw.replace(b"\n", b"\r\n"),
    "CR alone": lambda raw: raw.replace(b"\n", b"\r"),
    "comments": lambda raw: b": begins\n\n" + raw.replace(b"\ndata", b"\n: more\ndata"),
    "no space after the colon": lambda raw: raw.replace(b"data: ", b"data:") if b"data:  " not in raw else raw,
    "fields of no interest": lambda raw: raw.replace(b"data: {", b"id: 1\nretry: 5\nnothing\ndata: {"),
    "no empty line at the end": lambda raw: raw.rstrip(b"\n"),
    "a line that was cut off at the end": lambda raw: raw + b'data: {"choices": [{"del',
    "white space around": lambda raw: b"\n\n" + raw + b"\n\n\n",
}


@every_sse_language
@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_the_format_is_read(provider: str, form: str) -> None:
    raw = b"".join(events(provider))
    whole = said(await read(provider, [raw]))
    other = FORMS[form](raw)
    for size in (1, 2, 7, len(other)):
        assert said(await read(provider, [other[at : at + size] for at in range(0, len(other), size)])) == whole


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "cohere"])
async def test_data_over_several_lines_is_one_event(provider: str) -> None:
    raw = b"".join(events(provider))
    assert _split_data(raw) != raw
    assert said(await read(provider, [_split_data(raw)])) == said(await read(provider, [raw]))


@every_language
async def test_a_server_that_does_not_stream_is_read_all_the_same(provider: str) -> None:
    prepared = prepare(provider)
    recorded = RecordedRequest("POST", httpx.URL(prepared.url).path, None, prepared.body, {"host": "x"})
    calls: Json = {} if provider == "replicate" else {"tool_calls": [CALL]}
    body = json.dumps(FAKES[provider].response_body(recorded, Reply(content=TEXT, **calls)), indent=1).encode()
    accumulator = await read(provider, [body[:30], body[30:]])
    assert said(accumulator)[:3] == said(await read(provider, events(provider)))[:3]
    assert accumulator.usage
    assert (accumulator.usage.prompt_tokens, accumulator.usage.generation_tokens) == (12, 5)


# Characters cut in two


def _halves(provider: str) -> tuple[list[bytes], Json]:
    """Return a stream whose text and arguments have a character cut in two, and a lone half; and the same whole."""
    first, second, lone = "a\ud83d", "\ude00b", "c\ud83d"
    arguments = ('{"city": "\ud83d', '\ude00"}')
    match provider:
        case "openai":
            deltas: list[Json] = [{"content": text} for text in (first, second, lone)]
            deltas += [{"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": arguments[0]}}]}]
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": arguments[1]}}]}]
            stream = [sse({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
            call = {"id": "c", "function": {"name": "f", "arguments": "".join(arguments)}}
            parts = [{"type": "text", "text": text} for text in (first, second, lone)]
            message = {"role": "assistant", "content": parts, "tool_calls": [call]}
            return [*stream, sse({"choices": [{"delta": {}, "finish_reason": "stop"}]})], {
                "choices": [{"message": message}]
            }
        case "anthropic":
            stream = [
                sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
                for text in (first, second, lone)
            ]
            use = {"type": "tool_use", "id": "c", "name": "f"}
            stream.append(sse({"type": "content_block_start", "index": 1, "content_block": use | {"input": {}}}))
            stream += [
                sse(
                    {
                        "type": "content_block_delta",
                        "index": 1,
                        "delta": {"type": "input_json_delta", "partial_json": text},
                    }
                )
                for text in arguments
            ]
            texts = [{"type": "text", "text": text} for text in (first, second, lone)]
            stream.append(sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}))
            return stream, {"content": [*texts, use | {"input": {"city": "\ud83d\ude00"}}], "stop_reason": "end_turn"}
        case "bedrock":
            stream = [
                event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})
                for text in (first, second, lone)
            ]
            start = {"toolUse": {"toolUseId": "c", "name": "f"}}
            stream.append(event("contentBlockStart", {"contentBlockIndex": 1, "start": start}))
            stream += [
                event("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": text}}})
                for text in arguments
            ]
            texts = [{"text": text} for text in (first, second, lone)]
            tool: Json = {"toolUse": {"toolUseId": "c", "name": "f", "input": {"city": "\ud83d\ude00"}}}
            stream.append(event("messageStop", {"stopReason": "end_turn"}))
            return stream, {"output": {"message": {"content": [*texts, tool]}}, "stopReason": "end_turn"}
        case "google":
            function: Json = {"functionCall": {"id": "c", "name": "f", "args": {"city": "\ud83d\ude00"}}}
            pieces: list[Json] = [{"text": text} for text in (first, second, lone)]
            stream = [sse({"candidates": [{"content": {"parts": [part]}}]}) for part in pieces]
            ended = {"candidates": [{"content": {"parts": [function]}, "finishReason": "STOP"}]}
            return [*stream, sse(ended)], {
                "candidates": [{"content": {"parts": [*pieces, function]}, "finishReason": "STOP"}]
            }
        case _:
            stream = [
                sse({"type": "content-delta", "delta": {"message": {"content": {"text": text}}}})
                for text in (first, second, lone)
            ]
            call = {"id": "c", "function": {"name": "f", "arguments": arguments[0]}}
            more = {"function": {"arguments": arguments[1]}}
            stream.append(sse({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}}))
            stream.append(sse({"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": more}}}))
            stream.append(sse({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}))
            texts = [{"type": "text", "text": text} for text in (first, second, lone)]
            whole_call = {"id": "c", "function": {"name": "f", "arguments": "".join(arguments)}}
            return stream, {"message": {"content": texts, "tool_calls": [whole_call]}, "finish_reason": "COMPLETE"}


def _check_characters(choice: Choice) -> None:
    assert choice.text == "a😀bc\ufffd"
    (call,) = choice.tool_calls or []
    assert json.loads(call.function.arguments or "") == {"city": "😀"}


@pytest.mark.parametrize("provider", [name for name in FAKES if name != "replicate"])
async def test_characters_cut_in_two_are_joined_and_halves_replaced(provider: str) -> None:
    stream, whole = _halves(provider)
    deltas = [delta async for delta in client(stream)[0].stream(prepare(provider))]
    accumulator = StreamAccumulator()
    for delta in deltas:
        delta.text.encode()
        accumulator.add(delta)
    _check_characters(accumulator.choice())
    json.dumps(
        prepare(provider).dialect.write_response(prepare(provider).request, accumulator), ensure_ascii=False
    ).encode()
    read_whole = await client([json.dumps(whole).encode()])[0].complete(prepare(provider, stream=False))
    _check_characters(read_whole.choices[0])
    json.dumps(read_whole.raw, ensure_ascii=False).encode()


# Errors told under status 200


def _error(message: str = "no, not with sk-secret-1", **fields: Any) -> Json:
    return {"error": {"message": message} | fields}


def _anthropic_error(kind: str) -> bytes:
    return sse({"type": "error", "error": {"type": kind, "message": "no, not with sk-secret-1"}}, "error")


_BEGUN = sse(
    {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 25, "output_tokens": 1}}},
    "message_start",
)
TOLD: list[tuple[str, bytes, type[Problem]]] = [
    *(
        ("anthropic", before + _anthropic_error(kind), problem)
        for before in (b"", _BEGUN + sse({"type": "ping"}, "ping"))
        for kind, problem in (
            ("overloaded_error", Unavailable),
            ("rate_limit_error", RateLimited),
            ("authentication_error", Unauthenticated),
            ("permission_error", Unauthenticated),
            ("invalid_request_error", Invalid),
            ("not_found_error", Invalid),
            ("request_too_large", Invalid),
            ("api_error", UpstreamFailed),
            ("timeout_error", UpstreamFailed),
            ("of_the_future", UpstreamFailed),
        )
    ),
    *(
        ("openai", before + (sse(error) if framed else json.dumps(error).encode()), problem)
        for framed, before in (
            (True, b""),
            (True, sse({"choices": [{"delta": {"role": "assistant", "content": ""}}]})),
            (False, b""),
        )
        for error, problem in (
            (_error(code=429), RateLimited),
            (_error(code="rate_limit_exceeded", type="requests"), RateLimited),
            (_error(code=None, type="insufficient_quota"), RateLimited),
            (_error(code="invalid_api_key", type="invalid_request_error"), Unauthenticated),
            (_error(code=503), Unavailable),
            (_error(code="503"), Unavailable),
            (_error(type="overloaded_error"), Unavailable),
            (_error(type="invalid_request_error"), Invalid),
            (_error(code="context_length_exceeded"), Invalid),
            (_error(type="server_error"), UpstreamFailed),
            (_error(), UpstreamFailed),
            ({"error": "no, not with sk-secret-1"}, UpstreamFailed),
        )
    ),
    *(
        ("google", sse(error) if framed else json.dumps([error]).encode(), problem)
        for framed in (True, False)
        for error, problem in (
            (_error(code=503, status="UNAVAILABLE"), Unavailable),
            (_error(status="RESOURCE_EXHAUSTED"), RateLimited),
            (_error(code=400, status="INVALID_ARGUMENT"), Invalid),
            (_error(code=500), UpstreamFailed),
        )
    ),
    *(
        (
            "bedrock",
            event("messageStart", {"role": "assistant"}) + exception(kind, {"message": "no, not with sk-secret-1"}),
            problem,
        )
        for kind, problem in (
            ("throttlingException", RateLimited),
            ("modelStreamErrorException", UpstreamFailed),
            ("internalServerException", UpstreamFailed),
            ("validationException", Invalid),
            ("serviceUnavailableException", Unavailable),
        )
    ),
    (
        "cohere",
        sse({"type": "message-end", "delta": {"error": "no, not with sk-secret-1", "finish_reason": "ERROR"}}),
        UpstreamFailed,
    ),
    ("cohere", b'{"message": "no, not with sk-secret-1"}', UpstreamFailed),
    *(
        (provider, sse(error) if framed else json.dumps(error).encode(), RateLimited)
        for provider in ("openai", "anthropic", "google", "cohere")
        for framed in (True, False)
        for error in (
            _error(code=429),
            _error(status="429"),
            {"error": "no, not with sk-secret-1", "code": 429},
            {"message": "no, not with sk-secret-1", "status_code": 429},
            {"type": "error", "message": "no, not with sk-secret-1", "status": 429},
            {"detail": "no, not with sk-secret-1", "status": 429},
        )
    ),
    *(
        ("bedrock", json.dumps(error).encode(), RateLimited)
        for error in (
            _error(code=429),
            {"message": "no, not with sk-secret-1", "__type": "com.amazon#ThrottlingException"},
            {"Message": "no, not with sk-secret-1", "status": 429},
        )
    ),
    ("replicate", json.dumps(_error(code=429)).encode(), RateLimited),
    ("replicate", b"event: error\ndata: no, not with sk-secret-1\n\n", UpstreamFailed),
]


@pytest.mark.parametrize(("provider", "body", "kind"), TOLD)
async def test_an_error_before_any_content_is_that_error_and_costs_nothing(
    provider: str, body: bytes, kind: type[Problem]
) -> None:
    made, scripted = client([body])
    dispatch, progress = Dispatch(made, RetryPolicy(wait_initial_seconds=0.001)), CallProgress()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.generation.providers.resilience.dispatch._JITTER_SECONDS", 0)
        with pytest.raises(kind) as caught:
            [delta async for delta in dispatch.stream("tm_1", prepare(provider), progress)]
    assert caught.value.message == "no, not with ***"
    assert caught.value.origin == prepare(provider).title
    assert scripted.calls == (3 if kind.retryable else 1)
    assert not progress.may_have_cost
    assert not progress.answer_started


@every_language
async def test_an_error_before_any_content_is_tried_again_and_the_answer_is_whole(provider: str) -> None:
    body = next(body for name, body, kind in TOLD if name == provider and kind.retryable)
    made, scripted = client([body], events(provider))
    dispatch, progress = Dispatch(made, RetryPolicy(wait_initial_seconds=0.001)), CallProgress()
    text = "".join([delta.text async for delta in dispatch.stream("tm_1", prepare(provider), progress)])
    assert (text, scripted.calls) == (TEXT, 2)
    assert said(progress.accumulator) == said(await read(provider, events(provider)))


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "bedrock"])
async def test_an_error_after_content_breaks_the_answer_off(provider: str) -> None:
    body = next(
        body for name, body, kind in TOLD if name == provider and kind.retryable and not body.startswith((b"{", b"["))
    )
    made, scripted = client([*events(provider)[:4], body])
    dispatch, progress = Dispatch(made, RetryPolicy()), CallProgress()
    with pytest.raises(UpstreamFailed, match="failed in the middle of its answer"):
        [delta async for delta in dispatch.stream("tm_1", prepare(provider), progress)]
    assert (scripted.calls, progress.may_have_cost) == (1, True)
    assert progress.accumulator.choice().text


async def test_a_whole_reply_that_is_an_error_is_that_error() -> None:
    made, scripted = client(
        [json.dumps(_error(code=429)).encode()], [b'{"choices": [{"message": {"content": "yes"}}]}']
    )
    progress = CallProgress()
    dispatch = Dispatch(made, RetryPolicy(wait_initial_seconds=0.001))
    read_whole = await dispatch.complete("tm_1", prepare("openai", stream=False), progress)
    assert ([choice.text for choice in read_whole.choices], scripted.calls) == (["yes"], 2)
