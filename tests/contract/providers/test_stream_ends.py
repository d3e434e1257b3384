"""How streams end, and what stands in them that is no event: neither costs the caller an answer that was paid for."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.generation.models.request import StreamAccumulator
from services.generation.providers import errors
from services.generation.providers.resilience.dispatch import CallProgress, Dispatch, RetryPolicy
from services.generation.providers.transport.stream_framing import MAX_EVENT_BYTES
from shared.errors import Problem, RateLimited, UpstreamFailed
from tests.contract.providers.test_streams import (
    TEXT,
    client,
    events,
    every_language,
    every_sse_language,
    prepare,
    read,
    said,
)
from tests.fake_servers.bedrock import event, framed
from tests.fake_servers.server import sse

ENDS_WITHOUT_REASON = {
    "anthropic": [
        sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}),
        sse(
            {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"input_tokens": 9, "output_tokens": 5}}
        ),
        sse({"type": "message_stop"}),
    ],
    "bedrock": [
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": TEXT}}),
        event("messageStop", {"stopReason": None}),
        event("metadata", {"usage": {"inputTokens": 9, "outputTokens": 5}}),
    ],
    "cohere": [
        sse({"type": "content-delta", "delta": {"message": {"content": {"text": TEXT}}}}),
        sse({"type": "message-end", "delta": {"usage": {"tokens": {"input_tokens": 9, "output_tokens": 5}}}}),
    ],
}


@pytest.mark.parametrize("provider", ENDS_WITHOUT_REASON)
async def test_an_answer_that_ends_without_a_reason_has_ended(provider: str) -> None:
    accumulator = await read(provider, ENDS_WITHOUT_REASON[provider])
    assert said(accumulator)[:3] == (TEXT, [], "stop")
    assert accumulator.final_usage
    assert (accumulator.final_usage.prompt_tokens, accumulator.final_usage.generation_tokens) == (9, 5)


async def test_the_end_after_a_reason_does_not_change_it() -> None:
    delta = sse({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}})
    accumulator = await read("anthropic", [delta, sse({"type": "message_stop"})])
    assert accumulator.finish_reason == "length"


def _after_the_end(provider: str) -> list[bytes]:
    if provider == "bedrock":
        return [b"no message of AWS's", event("validationException", {"message": "no"})[:-4] + b"crc!"]
    return [
        b"data: {no JSON}\n\n",
        sse({"error": {"message": "no", "code": 500}}),
        b"event: error\ndata: no\n\n",
        b"data: " + b"x" * (MAX_EVENT_BYTES + 1),
    ]


@every_language
async def test_what_follows_the_end_does_not_cost_the_answer(provider: str) -> None:
    stream = [piece for piece in events(provider) if b"[DONE]" not in piece]
    whole = said(await read(provider, stream))
    assert whole[0] == TEXT
    for junk in _after_the_end(provider):
        assert said(await read(provider, [*stream, junk])) == whole


async def test_an_error_after_an_end_without_any_answer_is_that_error() -> None:
    empty = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    with pytest.raises(RateLimited, match="slow down"):
        await read("openai", [empty, sse({"error": {"message": "slow down", "code": 429}})])


class _Broken(httpx.AsyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        raise httpx.ReadError("reset")


async def _read_broken(provider: str, pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> StreamAccumulator:
    made, _ = client([b""])

    async def send(*_: Any) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=_Broken(pieces))

    monkeypatch.setattr(made, "_send", send)
    accumulator = StreamAccumulator()
    async for delta in made.stream(prepare(provider)):
        accumulator.add(delta)
    return accumulator


@every_language
async def test_a_connection_that_breaks_after_the_end_does_not_cost_the_answer(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = [piece for piece in events(provider) if b"[DONE]" not in piece]
    assert said(await _read_broken(provider, stream, monkeypatch)) == said(await read(provider, stream))
    with pytest.raises(UpstreamFailed):
        await _read_broken(provider, stream[:2], monkeypatch)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "cohere"])
@pytest.mark.parametrize("heartbeat", [b"ping", b"keep-alive", b"[PING]", b": processing"])
async def test_data_that_is_no_event_is_no_piece_of_the_answer(provider: str, heartbeat: bytes) -> None:
    stream, beat = events(provider), b"data: " + heartbeat + b"\n\n"
    with_beats = [beat, *(part for piece in stream for part in (piece, beat))]
    assert said(await read(provider, with_beats)) == said(await read(provider, stream))


@every_sse_language
async def test_a_stream_of_nothing_but_words_is_in_the_log(provider: str) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        await read(provider, [b"data: sk-secret-1 is not what I know\n\n"])
    partial = errors.partial_response(caught.value)
    if provider != "replicate":  # whose data is text
        assert partial
        assert partial.raw == {"body": "*** is not what I know"}


async def test_a_stream_in_an_array_is_read_like_events() -> None:
    stream = events("google")
    chunks = [json.loads(piece.removeprefix(b"data: ")) for piece in stream]
    body = json.dumps(chunks, indent=1).encode()
    assert said(await read("google", [body[:40], body[40:]])) == said(await read("google", stream))


async def test_a_prompt_that_is_blocked_in_the_middle_of_an_answer_breaks_it_off() -> None:
    blocked = sse({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
    made, _ = client([*events("google")[:2], blocked])
    progress = CallProgress()
    with pytest.raises(UpstreamFailed, match="in the middle of its answer: Google blocked the prompt"):
        [delta async for delta in Dispatch(made, RetryPolicy()).stream("tm_1", prepare("google"), progress)]
    assert progress.may_have_cost


async def test_line_feeds_and_tabs_in_texts_are_read() -> None:
    line = b'{"choices": [{"index": 0, "finish_reason": "stop", "%s": {"content": "a\tb\x01c"}}]}'
    assert said(await read("openai", [b"data: " + line % b"delta" + b"\n\n"]))[0] == "a\tb\x01c"
    whole = await client([line.replace(b"\t", b"\n") % b"message"])[0].complete(prepare("openai", stream=False))
    assert whole.choices[0].text == "a\nb\x01c"


async def test_arguments_that_come_whole_where_a_call_begins_are_read() -> None:
    use = {"type": "tool_use", "id": "c", "name": "f", "input": {"city": "Oslo"}}
    begin = sse({"type": "content_block_start", "index": 0, "content_block": use})
    delta = {"type": "input_json_delta", "partial_json": '{"city": "Bergen"}'}
    end = sse({"type": "message_delta", "delta": {"stop_reason": "tool_use"}})
    assert said(await read("anthropic", [begin, end]))[1] == [("c", "f", {"city": "Oslo"})]
    more = sse({"type": "content_block_delta", "index": 0, "delta": delta})
    assert said(await read("anthropic", [begin, more, end]))[1] == [("c", "f", {"city": "Bergen"})]


async def test_an_event_without_a_payload_is_no_end() -> None:
    stream = events("bedrock")
    empty = framed({":event-type": "ping", ":message-type": "event"}, b"")
    assert said(await read("bedrock", [stream[0], empty, *stream[1:]])) == said(await read("bedrock", stream))


@pytest.mark.parametrize("body", [b"<html>sk-secret-1 is down</html>", b"{"])
async def test_a_body_that_leads_nowhere_is_in_the_log(body: bytes) -> None:
    made, scripted = client([body])
    scripted.stream_type = "text/html"
    with pytest.raises(Problem) as caught:
        await made.complete(prepare("replicate", stream=False))
    partial = errors.partial_response(caught.value)
    assert partial
    assert partial.raw == {"body": body.decode().replace("sk-secret-1", "***")}
