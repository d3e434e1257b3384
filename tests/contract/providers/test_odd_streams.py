"""Streams in forms of proxies and gateways, through the client, on bytes: answer, calls and usage are those that the
vendor's own form would have given."""

import asyncio
import json
import re
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from services.generation.models.request import ModelResponse
from services.generation.providers import errors
from shared.contracts.chat import Usage
from shared.errors import Problem, RateLimited, UpstreamFailed
from tests.contract.providers.test_streams import (
    CALL,
    FAKES,
    TEXT,
    client,
    events,
    every_language,
    prepare,
    read,
    said,
)
from tests.fake_servers.server import Json, RecordedRequest, Reply, sse

ERROR = {"error": {"message": "slow down", "code": 429}}
json_languages = pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "cohere"])


def texts(provider: str) -> list[bytes]:
    """The JSON text of each event of the fake server's stream."""
    lines = b"".join(events(provider)).splitlines()
    return [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: {")]


def whole(provider: str) -> Json:
    """The fake server's response that is not streamed."""
    prepared = prepare(provider)
    recorded = RecordedRequest("POST", httpx.URL(prepared.url).path, None, prepared.body, {"host": "x"})
    calls: Json = {} if provider == "replicate" else {"tool_calls": [CALL]}
    body: Json = FAKES[provider].response_body(recorded, Reply(content=TEXT, **calls))
    return body


async def fails(provider: str, pieces: Iterable[bytes]) -> Problem:
    with pytest.raises(Problem) as caught:
        await read(provider, pieces)
    return caught.value


@json_languages
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
async def test_json_lines_are_a_stream(provider: str, end: bytes) -> None:
    expected = said(await read(provider, events(provider)))
    raw = b"".join(text + end for text in texts(provider))
    for body in (raw, b"\xef\xbb\xbf\n" + raw, raw.rstrip()):
        for size in (1, 7, len(body)):
            assert said(await read(provider, [body[at : at + size] for at in range(0, len(body), size)])) == expected


async def test_json_lines_are_read_as_they_come() -> None:
    words = ("one", "two", "three")
    lines = [json.dumps({"choices": [{"delta": {"content": word}}]}).encode() + b"\n" for word in words]
    stream = client([*lines, b'{"choices": [{"del'])[0].stream(prepare("openai"))
    assert [(await anext(stream)).text for _ in words] == list(words)
    with pytest.raises(UpstreamFailed, match="broke off"):
        await anext(stream)


@json_languages
async def test_an_event_that_was_framed_twice_is_read(provider: str) -> None:
    expected = said(await read(provider, events(provider)))
    raw = b"".join(events(provider))
    assert said(await read(provider, [raw.replace(b"data:", b"data: data:")])) == expected
    assert said(await read(provider, [raw.replace(b"data: ", b"data:data:")])) == expected


async def test_text_that_looks_like_a_field_stays_text() -> None:
    raw = b"event: output\ndata: data: x\n\nevent: done\ndata: {}\n\n"
    assert said(await read("replicate", [raw]))[0] == "data: x"


@json_languages
@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
async def test_a_whole_response_as_the_only_event_is_the_answer(provider: str, end: bytes) -> None:
    expected = said(await read(provider, events(provider)))
    assert said(await read(provider, [sse(whole(provider)) + end]))[:3] == expected[:3]


@json_languages
async def test_an_error_without_its_field_is_that_error(provider: str) -> None:
    """Before any content it is the error of its code; after some, the answer broke off."""
    line = json.dumps(ERROR).encode() + b"\n"
    assert isinstance(await fails(provider, [b": waiting\n\n", line]), RateLimited)
    begun = texts(provider)
    begun = begun[: len(begun) // 2]
    problem = await fails(provider, [*(b"data: " + text + b"\n\n" for text in begun), line])
    assert type(problem) is not RateLimited
    assert "slow down" in problem.message


@pytest.mark.parametrize("provider", ["anthropic", "cohere"])
async def test_the_type_of_an_event_may_stand_beside_its_data_alone(provider: str) -> None:
    parsed = [json.loads(text) for text in texts(provider)]
    stream = [sse({key: value for key, value in event.items() if key != "type"}, event["type"]) for event in parsed]
    assert said(await read(provider, stream)) == said(await read(provider, events(provider)))


async def test_content_in_the_message_that_begins_a_stream_is_read() -> None:
    use = {"type": "tool_use", "id": "callaaa01", "name": "weather", "input": {"city": "Bodø"}}
    begun = {"id": "m", "content": [{"type": "text", "text": TEXT}, use], "usage": {"input_tokens": 12}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    accumulator = await read("anthropic", [sse({"type": "message_start", "message": begun}), sse(end)])
    assert said(accumulator)[:3] == (TEXT, [("callaaa01", "weather", {"city": "Bodø"})], "tool_call")
    assert accumulator.usage
    assert (accumulator.usage.prompt_tokens, accumulator.usage.generation_tokens) == (12, 5)


@pytest.mark.parametrize(
    "delta", [{"message": TEXT}, {"text": TEXT}, {"content": {"text": TEXT}}, {"message": {"text": TEXT}}]
)
async def test_text_where_cohere_has_its_message_is_read(delta: Json) -> None:
    end = sse({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}})
    assert said(await read("cohere", [sse({"type": "content-delta", "delta": delta}), end]))[0] == TEXT


async def test_text_as_coheres_whole_message_is_the_answer_only_if_it_ended() -> None:
    answered = {"id": "x", "message": TEXT, "finish_reason": "COMPLETE"}
    assert said(await read("cohere", [json.dumps(answered).encode()]))[0] == TEXT
    for told in ({"message": "no such model", "finish_reason": "ERROR"}, {"message": "no such model"}):
        assert (await fails("cohere", [json.dumps(told).encode()])).message == "no such model"


def _snake_case(value: Any) -> Any:
    """Return a reply of Google's with the names of its fields as a gateway in Python writes them."""
    if isinstance(value, list):
        return [_snake_case(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = ((re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name), item) for name, item in value.items())
    return {name: item if name == "args" else _snake_case(item) for name, item in named}


async def test_googles_fields_in_snake_case_are_read() -> None:
    expected = said(await read("google", events("google")))
    stream = [sse(_snake_case(json.loads(text))) for text in texts("google")]
    assert b"function_call" in b"".join(stream)
    assert said(await read("google", stream)) == expected
    assert said(await read("google", [json.dumps(_snake_case(whole("google"))).encode()])) == expected


async def test_ollamas_own_lines_are_read() -> None:
    """https://docs.ollama.com/api/chat"""
    call = {"function": {"name": "weather", "arguments": {"city": "Vardø"}}}
    messages: list[Json] = [{"content": "", "thinking": "hm"}, {"content": TEXT}, {"content": "", "tool_calls": [call]}]
    lines: list[Json] = [
        {"model": "m", "message": {"role": "assistant"} | message, "done": False} for message in messages
    ]
    end = {"done": True, "done_reason": "length", "prompt_eval_count": 12, "eval_count": 5, "eval_duration": 7}
    lines.append({"model": "m", "message": {"role": "assistant", "content": ""}} | end)
    accumulator = await read("openai", [json.dumps(line).encode() + b"\n" for line in lines])
    assert said(accumulator)[:3] == (TEXT, [("", "weather", {"city": "Vardø"})], "length")
    assert accumulator.usage == Usage(prompt_tokens=12, generation_tokens=5, total_tokens=17)
    assert accumulator.response_fields["eval_duration"] == 7
    in_one = lines[1] | end
    assert said(await read("openai", [json.dumps(in_one).encode()])) == (TEXT, [], "length", accumulator.usage)


# Whole answers


async def complete(provider: str, body: bytes) -> ModelResponse:
    return await client([body])[0].complete(prepare(provider, stream=False))


@json_languages
async def test_a_stream_that_nobody_requested_is_the_answer(provider: str) -> None:
    (expected,) = (await complete(provider, json.dumps(whole(provider)).encode())).choices
    accumulated = await read(provider, events(provider))
    for body in (b"".join(events(provider)), b"\n".join(texts(provider)), b": waiting\n\n" + sse(whole(provider))):
        response = await complete(provider, body)
        (choice,) = response.choices
        assert (choice.text, choice.finish_reason) == (expected.text, expected.finish_reason)
        assert [call.function.name for call in choice.tool_calls or ()] == ["weather"]
        assert response.usage
        assert accumulated.usage in {None, response.usage}
        assert (await complete(provider, json.dumps(response.raw).encode())).choices[0].text == TEXT


@json_languages
async def test_an_error_in_a_stream_that_nobody_requested_is_that_error(provider: str) -> None:
    with pytest.raises(RateLimited):
        await complete(provider, sse(ERROR))
    with pytest.raises(UpstreamFailed, match="broke off"):
        await complete(provider, events(provider)[0])


@every_language
async def test_a_byte_order_mark_before_a_whole_answer_is_left_out(provider: str) -> None:
    body = json.dumps(whole(provider)).encode()
    assert await complete(provider, b"\xef\xbb\xbf" + body) == await complete(provider, body)


async def test_a_body_in_another_framing_is_kept() -> None:
    problem = await fails("bedrock", [b"<html>", b"down, says sk-secret-1</html>"])
    partial = errors.partial_response(problem)
    assert partial
    assert partial.raw == {"body": "<html>"}


async def test_a_long_stream_that_nobody_requested_holds_nobody_up() -> None:
    """Others run while it is read, for each 64 KiB of it."""
    raw = b": waiting\n\n" * 100_000 + b"".join(events("openai"))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    response = await complete("openai", raw)
    running.cancel()
    assert response.choices[0].text == TEXT
    assert turns > len(raw) / (64 * 1024)
