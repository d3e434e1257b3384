"""Each field of each provider's replies in turn is missing or of another type: no exception but a Problem, what can be
read is delivered, the reply is in the log, and the usage that was told is booked."""

import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from services.generation.completions.records import log_records
from services.generation.completions.run import GenerationRun
from services.generation.models.request import ModelRequest
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from services.generation.providers.transport.reading import EventReader, read_response
from shared.contracts.generation.projects import ModelConfig
from shared.contracts.logs import LogRecord
from shared.errors import Problem
from tests.unit.generation.completions.builders import MESSAGES, generation_run

PROMPT_TOKENS, OUTPUT_TOKENS = 1000, 500
MISSING = object()
ODD = [MISSING, None, 7, -1, "odd", [], ["odd"], {}, {"odd": 1}, True]
KEYS = dict.fromkeys(
    (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "AWS_BEARER_TOKEN_BEDROCK",
        "GEMINI_API_KEY",
        "COHERE_API_KEY",
        "REPLICATE_API_TOKEN",
    ),
    "sk-secret-1",
)
MODELS = {"openai": "gpt-4o", "replicate": "a/b"}
ARGUMENTS = {"city": "Oslo"}


class Replies(NamedTuple):
    """A reply of one provider, whole and as events; `text` is what the model says in it."""

    whole: Any
    events: list[Any]
    text: tuple[str, ...] = ("I look ", "now.")


def _openai() -> Replies:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": json.dumps(ARGUMENTS)}}
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "prompt_tokens_details": {"cached_tokens": 9},
    }
    message = {"role": "assistant", "content": "I look now.", "refusal": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}

    def event(delta: dict[str, Any], reason: str | None = None) -> Any:
        return {
            "id": "r",
            "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}],
        }

    return Replies(
        {"id": "r", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage},
        [
            event({"role": "assistant", "content": ""}),
            event({"content": "I look "}),
            event({"content": "now."}),
            event({"tool_calls": [{"index": 0, **call}]}),
            event({}, "tool_calls"),
            {"id": "r", "choices": [], "usage": usage},
        ],
    )


def _anthropic() -> Replies:
    usage = {"input_tokens": 900, "cache_read_input_tokens": 100, "output_tokens": OUTPUT_TOKENS}
    texts = [{"type": "text", "text": "I look "}, {"type": "text", "text": "now."}]
    use = {"type": "tool_use", "id": "c1", "name": "f", "input": ARGUMENTS}
    about = {"id": "r", "type": "message", "role": "assistant", "model": "m"}
    begun = about | {"content": [], "usage": usage | {"output_tokens": 1}}
    return Replies(
        about | {"content": [*texts, use], "stop_reason": "tool_use", "stop_sequence": None, "usage": usage},
        [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "I look "}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "now."}},
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": use | {"input": {}}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": usage},
            {"type": "message_stop"},
        ],
    )


def _bedrock() -> Replies:
    usage = {"inputTokens": 900, "cacheReadInputTokens": 100, "outputTokens": OUTPUT_TOKENS, "totalTokens": 1500}
    use = {"toolUseId": "c1", "name": "f", "input": ARGUMENTS}
    content = [{"text": "I look "}, {"text": "now."}, {"toolUse": use}]

    def delta(index: int, value: Any) -> Any:
        return {"contentBlockDelta": {"contentBlockIndex": index, "delta": value}}

    start = {"toolUse": {"toolUseId": "c1", "name": "f"}}
    return Replies(
        {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use", "usage": usage},
        [
            {"messageStart": {"role": "assistant"}},
            delta(0, {"text": "I look "}),
            delta(0, {"text": "now."}),
            {"contentBlockStart": {"contentBlockIndex": 1, "start": start}},
            delta(1, {"toolUse": {"input": "{}"}}),
            {"messageStop": {"stopReason": "tool_use"}},
            {"metadata": {"usage": usage}},
        ],
    )


def _google() -> Replies:
    usage = {"promptTokenCount": PROMPT_TOKENS, "candidatesTokenCount": 400, "thoughtsTokenCount": 100}
    call = {"functionCall": {"id": "c1", "name": "f", "args": ARGUMENTS}, "thoughtSignature": "c2ln"}

    def reply(*parts: Any, **fields: Any) -> Any:
        return {
            "candidates": [{"content": {"role": "model", "parts": list(parts)}, "index": 0} | fields],
            "modelVersion": "m",
        }

    return Replies(
        reply({"text": "I look "}, {"text": "now."}, call, finishReason="STOP") | {"usageMetadata": usage},
        [
            reply({"text": "I look "}),
            reply({"text": "now."}),
            reply(call, finishReason="STOP") | {"usageMetadata": usage},
        ],
    )


def _cohere() -> Replies:
    usage = {"tokens": {"input_tokens": PROMPT_TOKENS, "output_tokens": OUTPUT_TOKENS}, "cached_tokens": 9}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    texts = [{"type": "text", "text": "I look "}, {"type": "text", "text": "now."}]

    def event(kind: str, **message: Any) -> Any:
        return {"type": kind, "index": 0, "delta": {"message": message}}

    return Replies(
        {
            "id": "r",
            "finish_reason": "TOOL_CALL",
            "message": {"role": "assistant", "content": texts, "tool_calls": [call]},
            "usage": usage,
        },
        [
            {"type": "message-start", "id": "r", "delta": {"message": {"role": "assistant"}}},
            event("content-start", content={"type": "text", "text": ""}),
            event("content-delta", content={"text": "I look "}),
            event("content-delta", content={"text": "now."}),
            event("tool-call-start", tool_calls=call),
            {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": usage}},
        ],
    )


def _replicate() -> Replies:
    metrics = {"input_token_count": PROMPT_TOKENS, "output_token_count": OUTPUT_TOKENS}
    return Replies(
        {
            "id": "r",
            "model": "a/b",
            "status": "succeeded",
            "output": ["I look ", "now."],
            "error": None,
            "metrics": metrics,
        },
        [{"event": "output", "data": "I look "}, {"event": "output", "data": "now."}, {"event": "done", "data": "{}"}],
    )


REPLIES = {
    "openai": _openai(),
    "anthropic": _anthropic(),
    "bedrock": _bedrock(),
    "google": _google(),
    "cohere": _cohere(),
    "replicate": _replicate(),
}
every_dialect = pytest.mark.parametrize("provider", REPLIES)


def prepare(provider: str, *, stream: bool = False) -> PreparedRequest:
    config = ModelConfig(provider=provider, model=MODELS.get(provider, "m"), endpoint="chat", max_tokens=10**6)
    return Providers(KEYS, None).prepare(ModelRequest(config, MESSAGES, stream=stream), {})[0]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """Return a copy with another value at the path, or with nothing there."""
    copied = copy.deepcopy(value)
    around = at(copied, path[:-1])
    if odd is MISSING:
        del around[path[-1]]
    else:
        around[path[-1]] = odd
    return copied


def texts_outside(reply: Any, path: tuple[Any, ...], texts: tuple[str, ...]) -> list[str]:
    """Return the texts of an answer that a change at the path does not reach: not in it, beside it or below it."""
    found = [place for place in paths(reply) if at(reply, place) in (*texts, "".join(texts))]
    return [at(reply, place) for place in found if place[: len(path)] != path and place[:-1] != path[:-1]]


async def whole(provider: str, reply: Any) -> tuple[GenerationRun, LogRecord]:
    run = generation_run()
    call = run.start_call(0, prepare(provider))
    call.progress.mark_sent()
    try:
        run.record_response(0, call, read_response(call.prepared, json.dumps(reply).encode()))
    except Problem as problem:
        run.record_failure(0, call, problem)
    (record,) = await log_records(run)
    return run, record


async def streamed(provider: str, events: list[Any]) -> tuple[GenerationRun, LogRecord]:
    run, failure = generation_run(), None
    call = run.start_call(0, prepare(provider, stream=True))
    call.progress.mark_sent()
    reader = EventReader(call.prepared)
    try:
        for event in events:
            call.progress.add(reader.read(json.dumps(event).encode()))
    except Problem as problem:
        failure = problem
    run.record_stream_end(0, call, failure)
    (record,) = await log_records(run)
    return run, record


def is_about_usage(path: tuple[Any, ...], provider: str) -> bool:
    names = {"usage", "usageMetadata", "metrics", "metadata"}
    return bool(names & set(path)) or path == ("delta",) or (provider == "anthropic" and path == ("message",))


@every_dialect
async def test_the_replies_themselves_are_read(provider: str) -> None:
    replies = REPLIES[provider]
    for run, record in (await whole(provider, replies.whole), await streamed(provider, replies.events)):
        assert run.problem is None
        assert record.raw_output == "".join(replies.text)
        if provider != "replicate":
            assert [
                call.function.name for call in (record.output_message and record.output_message.tool_calls) or ()
            ] == ["f"]
            assert (record.prompt_tokens, record.output_tokens) == (PROMPT_TOKENS, OUTPUT_TOKENS)


@every_dialect
async def test_one_odd_field_of_a_whole_reply_costs_neither_answer_nor_log_nor_usage(provider: str) -> None:
    replies = REPLIES[provider]
    for path in paths(replies.whole):
        for odd in ODD:
            reply = changed(replies.whole, path, odd)
            run, record = await whole(provider, reply)
            where = f"{path}: {odd}"
            assert record.provider_response == reply, where
            for text in texts_outside(replies.whole, path, replies.text):
                assert text in (record.raw_output or ""), where
            assert run.problem is None or record.error, where
            if not is_about_usage(path, provider):
                assert (record.prompt_tokens, record.output_tokens) == (PROMPT_TOKENS, OUTPUT_TOKENS), where


@every_dialect
async def test_a_reply_in_a_list_of_one_is_read(provider: str) -> None:
    replies = REPLIES[provider]
    run, record = await whole(provider, [replies.whole])
    assert (run.problem, record.raw_output) == (None, "".join(replies.text))
    assert record.provider_response == {"body": [replies.whole]}
    assert (record.prompt_tokens, record.output_tokens) == (PROMPT_TOKENS, OUTPUT_TOKENS)


async def test_the_log_of_a_sample_has_its_choice_beside_one_that_cannot_be_read() -> None:
    reply = _openai().whole
    (choice,) = reply["choices"]
    for choices in ([choice | {"message": None}, choice | {"index": 1}], ["odd", choice, choice | {"index": 1}]):
        _, record = await whole("openai", reply | {"choices": choices})
        assert record.raw_output == "I look now."
        assert record.provider_response == reply | {"choices": choices}


async def test_an_error_that_tells_its_output_tokens_does_not_cost_the_told_prompt_tokens() -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": "no"}, "usage": {"output_tokens": 7}}
    _, record = await streamed("anthropic", [*_anthropic().events[:3], error])
    assert (record.prompt_tokens, record.output_tokens) == (PROMPT_TOKENS, 7)


@every_dialect
async def test_a_count_that_is_none_does_not_cost_the_other(provider: str) -> None:
    reply = REPLIES[provider].whole
    prompt_counts = [path for path in paths(reply) if at(reply, path) in (PROMPT_TOKENS, 900)]
    output_counts = [path for path in paths(reply) if at(reply, path) == OUTPUT_TOKENS]
    for odd in ODD:
        if odd not in (7, True, -1):
            for path in prompt_counts:
                _, record = await whole(provider, changed(reply, path, odd))
                assert record.output_tokens == OUTPUT_TOKENS
                assert (record.prompt_tokens or 0) > 0
            for path in output_counts:
                _, record = await whole(provider, changed(reply, path, odd))
                assert record.prompt_tokens == PROMPT_TOKENS
                assert (record.output_tokens or 0) > 0


@every_dialect
async def test_one_odd_field_of_an_event_costs_neither_answer_nor_log_nor_usage(provider: str) -> None:
    replies = REPLIES[provider]
    for number, event in enumerate(replies.events):
        others = [
            text
            for place, other in enumerate(replies.events)
            if place != number
            for text in texts_outside(other, ("",), replies.text)
        ]
        for path in paths(event):
            for odd in ODD:
                events = list(replies.events)
                events[number] = changed(event, path, odd)
                run, record = await streamed(provider, events)
                where = f"event {number}, {path}: {odd}"
                for text in others:
                    assert text in (record.raw_output or ""), where
                assert record.provider_response, where
                assert run.problem is None or record.error, where
                if provider != "replicate" and not is_about_usage(path, provider):
                    assert record.prompt_tokens == PROMPT_TOKENS, where
                    assert (record.output_tokens or 0) >= OUTPUT_TOKENS, where


@every_dialect
@pytest.mark.parametrize(
    "error",
    [{"message": "", "code": 0}, {"message": None, "type": None, "code": None, "param": None}, {}, "", 0, False],
)
async def test_an_error_in_which_nothing_is_set_is_none(provider: str, error: Any) -> None:
    replies = REPLIES[provider]
    events = [event | {"error": error} for event in replies.events]
    for run, record in (
        await whole(provider, replies.whole | {"error": error}),
        await streamed(provider, events),
    ):
        assert (run.problem, record.raw_output) == (None, "".join(replies.text))


@every_dialect
@pytest.mark.parametrize("odd", [None, 7, "odd", [], {}, [{}], {"odd": 1}])
async def test_a_reply_without_an_answer_is_in_the_log(provider: str, odd: Any) -> None:
    run, record = await whole(provider, odd)
    assert run.problem is not None
    assert run.problem.status == 502
    assert record.provider_response == (odd if isinstance(odd, dict) and odd else {"body": odd} if odd != {} else None)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "cohere"])
async def test_an_error_that_was_cut_inside_a_character_is_in_the_log(provider: str) -> None:
    error = {"type": "error", "error": {"message": "cut \ud83d", "type": "api_error"}}
    for run, record in (await whole(provider, error), await streamed(provider, [error])):
        assert run.problem is not None
        assert "cut \ufffd" in (record.error or "")
        record.model_dump_json()


async def test_a_reason_that_was_cut_inside_a_character_is_in_the_log() -> None:
    for reason in ("SAFETY", "MALFORMED_FUNCTION_CALL"):
        reply = {"candidates": [{"finishReason": reason, "finishMessage": "cut \ud83d"}]}
        for _, record in (await whole("google", reply), await streamed("google", [reply])):
            assert "cut" in (record.error or "")
            record.model_dump_json()


@every_dialect
async def test_a_body_that_is_no_json_is_in_the_log_without_the_key(provider: str) -> None:
    run = generation_run()
    call = run.start_call(0, prepare(provider))
    with pytest.raises(Problem) as caught:
        read_response(call.prepared, b"<html>sk-secret-1 is down</html>")
    run.record_failure(0, call, caught.value)
    (record,) = await log_records(run)
    assert record.provider_response == {"body": "<html>*** is down</html>"}
