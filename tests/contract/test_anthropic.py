"""Anthropic's own client library defines its wire language: fake server and dialect must agree with it."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import anthropic
import pytest
from anthropic.types import (
    MessageParam,
    TextBlockParam,
    ToolParam,
    ToolResultBlockParam,
    ToolUseBlockParam,
    URLImageSourceParam,
    UserMessageParam,
)
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from pydantic import TypeAdapter

from services.generation.models.request import ModelRequest, ModelResponse, StreamAccumulator
from services.generation.providers.base import PreparedRequest
from services.generation.providers.dialects import anthropic as dialect
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage, FunctionChoice, FunctionName, ResponseFormat, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, Unavailable, UpstreamFailed
from tests.fake_servers import anthropic as fake
from tests.fake_servers.server import FakeServer

MODEL = "claude-opus-5"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CALLS = [
    {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "toolu_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "weather", "description": "Weather now", "parameters": SCHEMA, "strict": True}


# What they make is checked as it is read, so they must live as long.
WHOLE: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
STREAMED: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)


@pytest.fixture(scope="module")
def fake_server() -> FakeServer:
    return fake.start()


@pytest.fixture(autouse=True)
def nothing_said_yet(fake_server: FakeServer) -> None:
    fake_server.clear()


@pytest.fixture(scope="module")
def sdk(fake_server: FakeServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="sk-test", base_url=fake_server.url.removesuffix("/v1"), max_retries=0)


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    prepared = Client(5.0, {})
    yield prepared
    await prepared.close()


def request(messages: list[Any], **fields: Any) -> ModelRequest:
    """Return a request; `fields` may be of the config or of the request."""
    told = {"tool_choice", "response_format", "user", "stream"}
    config = ModelConfig.model_validate(
        {"provider": "anthropic", "model": MODEL, "endpoint": "chat"}
        | {key: value for key, value in fields.items() if key not in told}
    )
    return ModelRequest(
        config,
        [ChatMessage.model_validate(message) for message in messages],
        **{key: value for key, value in fields.items() if key in told},
    )


def call(fake_server: FakeServer, request_: ModelRequest) -> PreparedRequest:
    return Providers({"ANTHROPIC_BASE_URL": fake_server.url}, None).prepare(request_, {"anthropic": "sk-test"})[0]


# What is sent

HI: list[Any] = [{"role": "user", "content": "Hi"}]
TALK: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
    {"role": "user", "content": "How are you?"},
]
PICTURES: list[Any] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Compare"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ],
    }
]
ASKED: list[Any] = [
    {"role": "user", "content": "Weather in both?"},
    {"role": "assistant", "content": "I look.", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "toolu_1", "content": "wet"},
    {"role": "tool", "tool_call_id": "toolu_2", "content": "dry"},
    {"role": "user", "content": "So?"},
]


def text(said: str) -> TextBlockParam:
    return TextBlockParam(type="text", text=said)


def user(*said: str) -> UserMessageParam:
    return UserMessageParam(role="user", content=[text(one) for one in said])


def looked_up(call_id: str, city: str) -> ToolUseBlockParam:
    return ToolUseBlockParam(type="tool_use", id=call_id, name="weather", input={"city": city})


def found(call_id: str, what: str) -> ToolResultBlockParam:
    return ToolResultBlockParam(type="tool_result", tool_use_id=call_id, content=[text(what)])


THEIR_TALK: list[MessageParam] = [
    user("Hi"),
    {"role": "assistant", "content": [text("Hello.")]},
    user("How are you?"),
]
THEIR_PICTURES: list[MessageParam] = [
    {
        "role": "user",
        "content": [
            text("Compare"),
            {"type": "image", "source": URLImageSourceParam(type="url", url="https://example.com/a.png")},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        ],
    }
]
THEIR_ASKED: list[MessageParam] = [
    user("Weather in both?"),
    {"role": "assistant", "content": [text("I look."), looked_up("toolu_1", "Oslo"), looked_up("toolu_2", "Bergen")]},
    {"role": "user", "content": [found("toolu_1", "wet"), found("toolu_2", "dry"), text("So?")]},
]
THEIR_TOOL = ToolParam(name="weather", description="Weather now", input_schema=dict[str, object](SCHEMA), strict=True)
NAMED = FunctionChoice(function=FunctionName(name="weather"))
ANSWER = ResponseFormat(type="json_schema", json_schema={"name": "place", "strict": True, "schema": SCHEMA})

CONVERSATIONS: dict[str, tuple[ModelRequest, dict[str, Any]]] = {
    "plain": (request(HI), {"messages": [user("Hi")]}),
    "budget": (request(HI, max_tokens=9), {"messages": [user("Hi")], "max_tokens": 9}),
    "system": (request(TALK), {"messages": THEIR_TALK, "system": "Be brief.\n\nBe kind."}),
    "prefill": (
        request([*HI, {"role": "assistant", "content": "I"}]),
        {"messages": [user("Hi"), {"role": "assistant", "content": [text("I")]}]},
    ),
    "images": (request(PICTURES), {"messages": THEIR_PICTURES}),
    "tools": (request(HI, tools=[TOOL]), {"messages": [user("Hi")], "tools": [THEIR_TOOL]}),
    "tool results": (request(ASKED, tools=[TOOL]), {"messages": THEIR_ASKED, "tools": [THEIR_TOOL]}),
    **{
        f"tool choice {theirs['type']}": (
            request(HI, tools=[TOOL], tool_choice=ours),
            {"messages": [user("Hi")], "tools": [THEIR_TOOL], "tool_choice": theirs},
        )
        for ours, theirs in [
            ("auto", {"type": "auto"}),
            ("none", {"type": "none"}),
            ("required", {"type": "any"}),
            (NAMED, {"type": "tool", "name": "weather"}),
        ]
    },
    "stop": (request(HI, stop="END"), {"messages": [user("Hi")], "stop_sequences": ["END"]}),
    "stops": (request(HI, stop=["A", "B"]), {"messages": [user("Hi")], "stop_sequences": ["A", "B"]}),
    "user": (request(HI, user="u-1"), {"messages": [user("Hi")], "metadata": {"user_id": "u-1"}}),
    "schema": (
        request(HI, response_format=ANSWER),
        {"messages": [user("Hi")], "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    "other": (
        request(HI, other={"thinking": {"type": "adaptive"}, "model": "not this"}),
        {"messages": [user("Hi")], "thinking": {"type": "adaptive"}},
    ),
    "stream": (request(HI, stream=True), {"messages": [user("Hi")], "stream": True}),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_we_send_what_the_library_sends(sdk: anthropic.Anthropic, fake_server: FakeServer, name: str) -> None:
    request_, theirs = CONVERSATIONS[name]
    arguments: Any = {"model": MODEL, "max_tokens": 4096} | theirs
    answer = sdk.messages.create(**arguments)
    if request_.stream:
        answer.close()
    sent = fake_server.last
    prepared = call(fake_server, request_)
    assert prepared.body == sent.body
    assert prepared.url.endswith(f"//{sent.headers['host']}{sent.path}")
    assert sent.key == prepared.key


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_we_send_is_of_the_librarys_types(name: str) -> None:
    request_, _ = CONVERSATIONS[name]
    ours = dialect.body(request_)
    assert materialised((STREAMED if request_.stream else WHOLE).validate_python(ours)) == ours


def test_the_librarys_types_refuse_another_body() -> None:
    wrong = dialect.body(request(ASKED)) | {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}
    with pytest.raises(ValueError, match="tool_use_id"):
        materialised(WHOLE.validate_python(wrong))


def materialised(value: Any) -> Any:
    """Turn iterables into lists: pydantic validates them lazily, and leaves unknown fields out."""
    if isinstance(value, dict):
        return {key: materialised(inner) for key, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [materialised(inner) for inner in value]
    return value


async def test_sampling_parameters_are_allowed_in_our_api_version(fake_server: FakeServer, client: Client) -> None:
    """The library's own API version has none any more; ours is the last that has."""
    await client.complete(call(fake_server, request(HI, temperature=0.2)))
    assert fake_server.last.body["temperature"] == 0.2
    assert fake_server.last.headers["anthropic-version"] == "2023-06-01"


# What comes back

REPLIES: dict[str, dict[str, Any]] = {
    "text": {"content": "It rains  in Oslo.\n"},
    "cut short": {"content": "It", "finish_reason": "length"},
    "tool calls": {"content": "I look.", "tool_calls": CALLS},
    "only a tool call": {"content": None, "tool_calls": CALLS[:1]},
    "without arguments": {
        "content": None,
        "tool_calls": [{"id": "toolu_3", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
    },
}
OURS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_call"}


def same(ours: ModelResponse, theirs: anthropic.types.Message, told: dict[str, Any]) -> None:
    """Our client and the library read the same, which is what the fake server was configured with."""
    (choice,) = ours.choices
    assert choice.text == (told["content"] or "")
    assert [call.model_dump() for call in choice.tool_calls or ()] == told.get("tool_calls", [])
    assert choice.text == "".join(block.text for block in theirs.content if block.type == "text")
    calls = [block for block in theirs.content if block.type == "tool_use"]
    assert [(call.id, call.function.name) for call in choice.tool_calls or ()] == [(one.id, one.name) for one in calls]
    assert [json.loads(call.function.arguments or "") for call in choice.tool_calls or ()] == [
        one.input for one in calls
    ]
    assert theirs.stop_reason is not None
    assert choice.finish_reason == OURS[theirs.stop_reason]
    assert ours.usage == Usage(
        prompt_tokens=theirs.usage.input_tokens,
        generation_tokens=theirs.usage.output_tokens,
        total_tokens=theirs.usage.input_tokens + theirs.usage.output_tokens,
    )


@pytest.mark.parametrize("name", REPLIES)
async def test_a_response(sdk: anthropic.Anthropic, fake_server: FakeServer, client: Client, name: str) -> None:
    fake_server.reply(**REPLIES[name])
    theirs = sdk.messages.create(model=MODEL, max_tokens=9, messages=[user("Hi")])
    fake_server.reply(**REPLIES[name])
    same(await client.complete(call(fake_server, request(HI))), theirs, REPLIES[name])


@pytest.mark.parametrize("name", REPLIES)
async def test_a_streamed_response(
    sdk: anthropic.Anthropic, fake_server: FakeServer, client: Client, name: str
) -> None:
    fake_server.reply(**REPLIES[name])
    with sdk.messages.stream(model=MODEL, max_tokens=9, messages=[user("Hi")]) as stream:
        theirs = stream.get_final_message()
    fake_server.reply(**REPLIES[name])
    request_ = call(fake_server, request(HI, stream=True))
    accumulator = StreamAccumulator()
    async for chunk in client.stream(request_):
        accumulator.add(chunk)
    read = dialect.read_response(request_.request, dialect.write_response(request_.request, accumulator))
    assert read.choices == [accumulator.choice()]
    assert read.raw["id"] == theirs.id
    assert read.raw["model"] == theirs.model
    same(read, theirs, REPLIES[name])


# What goes wrong


@pytest.mark.parametrize(
    ("status", "theirs", "ours"),
    [
        (400, anthropic.BadRequestError, Invalid),
        (401, anthropic.AuthenticationError, Unauthenticated),
        (403, anthropic.PermissionDeniedError, Unauthenticated),
        (404, anthropic.NotFoundError, Invalid),
        (413, anthropic.APIStatusError, Invalid),
        (429, anthropic.RateLimitError, RateLimited),
        (500, anthropic.InternalServerError, UpstreamFailed),
        (529, anthropic.APIStatusError, Unavailable),
    ],
)
async def test_an_error_status(  # every status: what the library makes of it, and what we do
    sdk: anthropic.Anthropic,
    fake_server: FakeServer,
    client: Client,
    status: int,
    theirs: type[Exception],
    ours: type[Problem],
) -> None:
    fields = {"status": status, "error": {"message": "prompt is too long"}, "headers": {"retry-after": "7"}}
    fake_server.reply(**fields)
    with pytest.raises(theirs, match="prompt is too long"):
        sdk.messages.create(model=MODEL, max_tokens=9, messages=[user("Hi")])
    fake_server.reply(**fields)
    with pytest.raises(ours) as caught:
        await client.complete(call(fake_server, request(HI)))
    assert (caught.value.message, caught.value.origin) == ("prompt is too long", "Anthropic")
    assert caught.value.retry_after_seconds == 7


async def test_a_stream_that_fails_in_the_middle(
    sdk: anthropic.Anthropic, fake_server: FakeServer, client: Client
) -> None:
    fake_server.reply(stream_error="Overloaded")
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        sdk.messages.stream(model=MODEL, max_tokens=9, messages=[user("Hi")]) as stream,
    ):
        stream.get_final_message()
    fake_server.reply(stream_error="Overloaded")
    with pytest.raises(UpstreamFailed, match="Overloaded"):
        [chunk async for chunk in client.stream(call(fake_server, request(HI, stream=True)))]


BROKEN = pytest.mark.parametrize("fields", [{"break_after_chunks": 4}, {"garbage": True}])


@BROKEN
async def test_an_invalid_response(fake_server: FakeServer, client: Client, fields: dict[str, Any]) -> None:
    fake_server.reply(**fields)
    with pytest.raises(UpstreamFailed, match="Anthropic"):
        await client.complete(call(fake_server, request(HI)))


@BROKEN
async def test_an_invalid_stream(fake_server: FakeServer, client: Client, fields: dict[str, Any]) -> None:
    fake_server.reply(**fields)
    with pytest.raises(UpstreamFailed, match="Anthropic"):
        [chunk async for chunk in client.stream(call(fake_server, request(HI, stream=True)))]
