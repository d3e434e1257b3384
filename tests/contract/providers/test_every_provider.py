"""What must hold for every provider: each test runs for each of the registry."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, get_args

import pytest

from services.generation.models.features import Feature, required_features
from services.generation.models.request import ModelRequest, StreamAccumulator
from services.generation.providers.dialects import mock
from services.generation.providers.registry import ProviderSpec
from shared.contracts.chat import (
    ChatMessage,
    FunctionCall,
    FunctionChoice,
    FunctionName,
    Image,
    ImageUrl,
    ResponseFormat,
    Text,
    ToolCall,
    Usage,
)
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, Unavailable, UpstreamFailed
from tests.contract.providers.served_providers import DUMMY, EVERY_PROVIDER, KEY, ServedProvider, fake_server_of, serve

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DATA_URL = f"data:image/png;base64,{PIXEL}"
IMAGE_URL = "https://pictures.example/cat.png"
TOOL = {
    "name": "weather_at",
    "description": "The weather of a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
CALLS = [
    {"id": "callaaa01", "type": "function", "function": {"name": "weather_at", "arguments": '{"town": "Oslo"}'}},
    {"id": "callbbb02", "type": "function", "function": {"name": "weather_at", "arguments": '{"town": "Rome"}'}},
]
SCHEMA = {
    "name": "reading",
    "schema": {
        "type": "object",
        "properties": {"thermometer_reading": {"type": "number"}},
        "required": ["thermometer_reading"],
        "additionalProperties": False,
    },
    "strict": True,
}
TEXT = "Fine, thank you.\n  It rains ☂, “still”."


@pytest.fixture(params=EVERY_PROVIDER, ids=lambda spec: spec.name)
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[ServedProvider]:
    """Each provider; after each test `serve` asserts that no connection is left open."""
    async with serve(request.param) as one:
        yield one


def system(text: str) -> ChatMessage:
    return ChatMessage(role="system", content=text)


def user(content: Any) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def image(url: str) -> Image:
    return Image(image_url=ImageUrl(url=url))


def sent(provider: ServedProvider) -> str:
    """Return the body that arrived as text, without escapes."""
    return json.dumps(provider.fake_server.requests[0].body, ensure_ascii=False)


class TestAnswers:
    async def test_a_response(self, provider: ServedProvider) -> None:
        provider.fake_server.reply(content=TEXT)
        completion = await provider.complete(provider.chat())
        (choice,) = completion.choices
        assert (choice.text, choice.tool_calls, choice.finish_reason) == (TEXT, None, "stop")
        assert completion.usage == Usage(prompt_tokens=12, generation_tokens=5, total_tokens=17)
        assert isinstance(completion.raw, dict)
        assert provider.fake_server.requests[0].key == provider.key

    async def test_a_streamed_response_is_the_same_in_pieces(self, provider: ServedProvider) -> None:
        provider.fake_server.reply(content=TEXT, always_sends_usage=True)
        chunks = [chunk async for chunk in provider.chunks(provider.chat())]
        accumulator = StreamAccumulator()
        for chunk in chunks:
            accumulator.add(chunk)
        provider.fake_server.reply(content=TEXT)
        completion = await provider.complete(provider.chat())
        assert [accumulator.choice()] == completion.choices
        assert sum(bool(chunk.text) for chunk in chunks) > 3
        assert accumulator.usage in {completion.usage, None}
        request = provider.chat(stream=True)
        read = provider.spec.dialect.read_response(request, provider.spec.dialect.write_response(request, accumulator))
        assert (read.choices, read.usage) == ([accumulator.choice()], accumulator.usage)

    async def test_a_completion(self, provider: ServedProvider) -> None:
        provider.fake_server.reply(content="upon a time")
        completion = await provider.complete(provider.prompt())
        assert [choice.text for choice in completion.choices] == ["upon a time"]
        assert "Once" in sent(provider)
        provider.fake_server.reply(content="upon a time")
        assert (await provider.stream(provider.prompt())).choice().text == "upon a time"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_several_samples(self, provider: ServedProvider, stream: bool) -> None:
        calls = provider.prepare(provider.chat(samples=3, stream=stream))
        if stream:
            assert len(calls) == 3
            for call in calls:
                texts = [chunk.text async for chunk in provider.client.stream(call)]
                assert "".join(texts) == "Fine, thank you."
        else:
            answers = await asyncio.gather(*(provider.client.complete(call) for call in calls))
            assert [choice.text for answer in answers for choice in answer.choices] == ["Fine, thank you."] * 3

    async def test_an_answer_cut_at_max_tokens(self, provider: ServedProvider) -> None:
        provider.fake_server.reply(content="Fine, thank", finish_reason="length")
        completion = await provider.complete(provider.chat(config={"max_tokens": 5}))
        assert completion.choices[0].finish_reason == "length"

    async def test_an_answer_without_text(self, provider: ServedProvider) -> None:
        provider.fake_server.reply(content=None)
        assert (await provider.complete(provider.chat())).choices[0].text == ""
        provider.fake_server.reply(content=None)
        accumulator = await provider.stream(provider.chat())
        assert (accumulator.choice().text, accumulator.choice().finish_reason) == ("", "stop")


class TestRequests:
    async def test_the_roles(self, provider: ServedProvider) -> None:
        history = [system("Be brief."), user("Who?"), ChatMessage(role="assistant", content="Me."), user("Why?")]
        await provider.complete(provider.chat(*history))
        body = sent(provider)
        assert all(text in body for text in ("Be brief.", "Who?", "Me.", "Why?"))
        assert body.count("Be brief.") == 1

    async def test_sampling(self, provider: ServedProvider) -> None:
        await provider.complete(provider.chat(config={"temperature": 0.31, "top_p": 0.73, "max_tokens": 47}))
        assert {0.31, 0.73, 47} <= set(map(_hashable, leaves(provider.fake_server.requests[0].body)))

    async def test_other_reaches_the_provider(self, provider: ServedProvider) -> None:
        await provider.complete(provider.chat(config={"other": {"top_k": 41}}))
        assert 41 in map(_hashable, leaves(provider.fake_server.requests[0].body))

    @pytest.mark.parametrize("feature", get_args(Feature))
    async def test_a_feature_is_sent_or_refused_but_never_dropped(
        self, provider: ServedProvider, feature: Feature
    ) -> None:
        request, evidence = using(provider, feature)
        lacking = [each for each in required_features(request) if each in provider.spec.lacks]
        if lacking or (feature == "suffix" and provider.spec.chat_models):
            with pytest.raises(Invalid, match=lacking[0] if lacking else "only chats"):
                provider.prepare(request)
            assert not provider.fake_server.requests
            return
        await provider.complete(request)
        found = leaves(provider.fake_server.requests[0].body)
        for each in evidence:
            inside = isinstance(each, str) and each in sent(provider)
            assert inside or each in found, f"{provider.spec.title} was not sent {each!r}"
        without = replace(request, tool_choice=None, response_format=None)
        if without != request:  # words alone do not show it
            await provider.complete(without)
            assert provider.fake_server.requests[0].body != provider.fake_server.requests[1].body

    async def test_a_tool_may_be_required_without_being_named(self, provider: ServedProvider) -> None:
        request = replace(provider.chat(config={"tools": [TOOL]}), tool_choice="required")
        if {"tools", "forced tools"} & provider.spec.lacks:
            with pytest.raises(Invalid, match="tools"):
                provider.prepare(request)
            return
        for choice in ("required", "auto", "none"):
            await provider.complete(replace(request, tool_choice=choice))
        bodies = [json.dumps(each.body) for each in provider.fake_server.requests]
        assert len(set(bodies)) == 3


def using(provider: ServedProvider, feature: Feature) -> tuple[ModelRequest, list[Any]]:
    """Return a request that needs the feature, and text that must arrive."""
    tools = {"tools": [TOOL]}
    named = FunctionChoice(function=FunctionName(name="weather_at"))
    chat = provider.chat
    looks = {"images": user([Text(text="What is it?"), image(DATA_URL), image(IMAGE_URL)])}
    if provider.spec.inline_images:  # by then images named by address were fetched
        looks["images"] = user([Text(text="What is it?"), image(DATA_URL)])
    requests: dict[Feature, tuple[ModelRequest, list[Any]]] = {
        "tools": (chat(config=tools), ["weather_at", "The weather of a town", "town"]),
        "forced tools": (replace(chat(config=tools), tool_choice=named), ["weather_at"]),
        "images": (
            chat(looks["images"]),
            ["What is it?", PIXEL] + ([] if provider.spec.inline_images else [IMAGE_URL]),
        ),
        "images in the system message": (
            chat(ChatMessage(role="system", content=[image(DATA_URL)]), user("What is it?")),
            [PIXEL],
        ),
        "JSON mode": (chat(user("Say it in json."), response_format=ResponseFormat(type="json_object")), ["json"]),
        "JSON schemas": (
            chat(user("As json."), response_format=ResponseFormat(type="json_schema", json_schema=SCHEMA)),
            ["thermometer_reading"],
        ),
        "seed": (chat(seed=1234567), [1234567]),
        "logprobs": (chat(logprobs=7), [7]),
        "suffix": (provider.prompt(suffix="and so they lived"), ["and so they lived"]),
        "penalties": (chat(config={"presence_penalty": 0.321, "frequency_penalty": 0.123}), [0.321, 0.123]),
        "stop sequences": (chat(config={"stop": ["###", "ENOUGH"]}), ["###", "ENOUGH"]),
    }
    return requests[feature]


class TestContradictions:
    async def test_a_choice_without_tools_is_refused(self, provider: ServedProvider) -> None:
        named = FunctionChoice(function=FunctionName(name="weather_at"))
        for choice in ("required", named):
            with pytest.raises(Invalid, match=r"tool_choice|forced tools"):
                provider.prepare(replace(provider.chat(), tool_choice=choice))
        if not provider.spec.lacks & {"tools", "forced tools"}:
            other = FunctionChoice(function=FunctionName(name="tide_at"))
            with pytest.raises(Invalid, match="'tide_at', which is none of the config's tools: weather_at"):
                provider.prepare(replace(provider.chat(config={"tools": [TOOL]}), tool_choice=other))

    async def test_a_bare_schema_is_accepted(self, provider: ServedProvider) -> None:
        bare = ResponseFormat(type="json_schema", json_schema=SCHEMA["schema"])
        nothing = ResponseFormat(type="json_schema")
        with pytest.raises(Invalid, match="json_schema"):
            provider.prepare(provider.chat(user("As json."), response_format=nothing))
        if "JSON schemas" in provider.spec.lacks:
            return
        await provider.complete(provider.chat(user("As json."), response_format=bare))
        assert "thermometer_reading" in sent(provider)

    async def test_chat_features_are_refused_in_a_completion(self, provider: ServedProvider) -> None:
        request = provider.prompt(response_format=ResponseFormat(type="json_object"))
        (call,) = provider.prepare(provider.prompt())
        if call.request.prompt is None:  # it goes as a chat
            return
        with pytest.raises(Invalid, match="cannot do JSON mode"):
            provider.prepare(request)


def leaves(value: Any) -> list[Any]:
    """Yield every scalar of a JSON value."""
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


def _hashable(leaf: Any) -> Any:
    return leaf if isinstance(leaf, int | float | str) else None


class TestTools:
    async def test_parallel_calls_and_their_results_keep_their_ids(self, provider: ServedProvider) -> None:
        if "tools" in provider.spec.lacks:
            with pytest.raises(Invalid, match="tools"):
                provider.prepare(provider.chat(config={"tools": [TOOL]}))
            with pytest.raises(Invalid, match="tools"):
                provider.prepare(provider.chat(*_called([ToolCall.model_validate(call) for call in CALLS])))
            return
        provider.fake_server.reply(content=None, tool_calls=CALLS)
        (choice,) = (await provider.complete(provider.chat(config={"tools": [TOOL]}))).choices
        assert choice.finish_reason == "tool_call"
        assert [_said(call) for call in choice.tool_calls or ()] == [_said(ToolCall(**call)) for call in CALLS]
        provider.fake_server.reply(content=None, tool_calls=CALLS)
        assert (await provider.stream(provider.chat(config={"tools": [TOOL]}))).choice() == choice

        provider.fake_server.clear()
        await provider.complete(provider.chat(*_called(choice.tool_calls or []), config={"tools": [TOOL]}))
        body = sent(provider)
        assert body.index("four degrees") < body.index("twenty degrees")
        for call in choice.tool_calls or ():
            assert body.count(call.id) == 2, "once where it was called, once where it is answered"

    async def test_text_beside_calls(self, provider: ServedProvider) -> None:
        if "tools" in provider.spec.lacks:
            assert "forced tools" in provider.spec.lacks
            return
        provider.fake_server.reply(content="I look.", tool_calls=CALLS[:1])
        (choice,) = (await provider.complete(provider.chat(config={"tools": [TOOL]}))).choices
        assert (choice.text, len(choice.tool_calls or ())) == ("I look.", 1)


def _called(calls: list[ToolCall]) -> list[ChatMessage]:
    degrees = ("four degrees", "twenty degrees")
    results = [
        ChatMessage(role="tool", content=text, tool_call_id=call.id) for call, text in zip(calls, degrees, strict=True)
    ]
    return [user("How warm?"), ChatMessage(role="assistant", content="", tool_calls=calls), *results]


def _said(call: ToolCall) -> tuple[str, str, Any]:
    function: FunctionCall = call.function
    return call.id, function.name, json.loads(function.arguments or "null")


STATUSES = [
    (400, Invalid),
    (401, Unauthenticated),
    (403, Unauthenticated),
    (404, Invalid),
    (429, RateLimited),
    (500, UpstreamFailed),
    (503, Unavailable),
    (529, Unavailable),
]


class TestFailures:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(("status", "kind"), STATUSES)
    async def test_an_error_status(
        self, provider: ServedProvider, status: int, kind: type[Problem], stream: bool
    ) -> None:
        headers = {"Retry-After": "7"} if status in {429, 503} else {}
        provider.fake_server.reply(status=status, error={"message": f"no, not with {KEY}"}, headers=headers)
        with pytest.raises(kind) as caught:
            await (provider.stream if stream else provider.complete)(provider.chat())
        problem = caught.value
        assert problem.origin == provider.spec.title
        assert problem.retry_after_seconds == (7.0 if headers else None)
        assert problem.message == "no, not with ***" if provider.key else "no, not with" in problem.message

    @pytest.mark.parametrize("events", [0, 2])
    async def test_a_stream_that_breaks_off(self, provider: ServedProvider, events: int) -> None:
        provider.fake_server.reply(break_after_chunks=events)
        await _fails(provider, stream=True)

    async def test_a_response_that_breaks_off(self, provider: ServedProvider) -> None:
        provider.fake_server.reply(break_after_chunks=1)
        await _fails(provider)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("nothing", [{"garbage": True}, {"empty": True}])
    async def test_a_body_that_is_not_a_response(
        self, provider: ServedProvider, nothing: dict[str, Any], stream: bool
    ) -> None:
        provider.fake_server.reply(**nothing)
        await _fails(provider, stream=stream)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_timeout(self, provider: ServedProvider, stream: bool) -> None:
        provider.fake_server.reply(delay_seconds=0.4)
        hasty = replace(provider, client=type(provider.client)(0.1, {}))
        await _fails(hasty, "did not answer in time", stream=stream)
        await hasty.client.close()

    async def test_a_caller_that_disconnects(self, provider: ServedProvider) -> None:
        provider.fake_server.reply(content="word " * 50, chunk_delay_seconds=0.01)
        async with aclosing(provider.chunks(provider.chat())) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                if chunk.text:
                    break


async def _fails(provider: ServedProvider, match: str | None = None, *, stream: bool = False) -> None:
    with pytest.raises(UpstreamFailed, match=match) as caught:
        await (provider.stream if stream else provider.complete)(provider.chat())
    assert caught.value.origin == provider.spec.title


@pytest.mark.parametrize("spec", EVERY_PROVIDER, ids=lambda spec: spec.name)
async def test_an_unreachable_provider(spec: ProviderSpec) -> None:
    async with serve(spec, "http://127.0.0.1:1") as provider:
        for ask in (provider.complete, provider.stream):
            with pytest.raises(Unavailable, match="cannot be reached") as caught:
                await ask(provider.chat())
            assert caught.value.origin == spec.title


@pytest.mark.parametrize("spec", [spec for spec in EVERY_PROVIDER if spec.key_variable], ids=lambda spec: spec.name)
async def test_a_provider_without_a_key(spec: ProviderSpec) -> None:
    async with serve(spec) as provider:
        provider.providers._environment = {
            name: value for name, value in provider.providers._environment.items() if value != KEY
        }
        if spec.key_optional:
            await provider.complete(provider.chat())
            assert provider.fake_server.last.key is None
        else:
            with pytest.raises(Unauthenticated, match=str(spec.key_variable)) as caught:
                provider.prepare(provider.chat())
            assert caught.value.origin == spec.title


def test_a_provider_with_a_new_dialect_needs_a_fake_server() -> None:
    with pytest.raises(
        pytest.fail.Exception, match=r"Add a fake server for services\.generation\.providers\.dialects\.mock"
    ):
        fake_server_of(replace(DUMMY, dialect=mock))  # type: ignore[arg-type]
