"""Cohere: Cohere's own client library, our dialect and the fake server write and read the same."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cohere
import pytest

from services.generation.models.request import Choice
from shared.contracts.chat import ToolCall, Usage
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, Unavailable, UpstreamFailed
from tests.contract import client_side
from tests.fake_servers import cohere as fake
from tests.fake_servers.server import FakeServer, Json

MODEL = "command-of-tomorrow"
"""Not in the catalogue of models, so nothing is refused for it."""
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NOTHING: Json = {"type": "object", "properties": {}}
TOOLS: list[Json] = [
    {"name": "weather", "description": "Now.", "parameters": SCHEMA, "source": "inline"},
    {"name": "time"},
]
WEATHER = cohere.ToolV2(function=cohere.ToolV2Function(name="weather", description="Now.", parameters=SCHEMA))
THEIR_TOOLS = [WEATHER, cohere.ToolV2(function=cohere.ToolV2Function(name="time", parameters=NOTHING))]
USER = {"role": "user", "content": "Hi"}
HI = cohere.UserChatMessageV2(content="Hi")
IMAGE = "data:image/png;base64,iVBORw=="


@pytest.fixture(scope="module")
def fake_server() -> FakeServer:
    return fake.start()


@pytest.fixture(autouse=True)
def _fresh(fake_server: FakeServer) -> None:
    fake_server.clear()


@pytest.fixture(scope="module")
def client(fake_server: FakeServer) -> Iterator[cohere.ClientV2]:
    address = fake_server.url.removesuffix("/v2")
    with cohere.ClientV2(api_key="co-test", base_url=address, log_warning_experimental_features=False) as prepared:
        yield prepared


@pytest.fixture
def environment(fake_server: FakeServer) -> dict[str, str]:
    return {"COHERE_BASE_URL": fake_server.url, "CO_API_KEY": "co-test"}


def chat(**fields: Any) -> Any:
    config = {"provider": "cohere", "model": MODEL} | fields.pop("config", {})
    return client_side.request(config, fields.pop("messages", [USER]), **fields)


class TestTheVendorsClientReadsTheFakeServer:
    def test_a_response(self, client: cohere.ClientV2, fake_server: FakeServer) -> None:
        fake_server.reply(content="Hello.")
        answer = client.chat(model=MODEL, messages=[HI])
        assert [part.text for part in answer.message.content or () if part.type == "text"] == ["Hello."]
        assert answer.finish_reason == "COMPLETE"
        assert answer.usage is not None
        assert answer.usage.tokens is not None
        assert (answer.usage.tokens.input_tokens, answer.usage.tokens.output_tokens) == (12, 5)
        assert (answer.id, fake_server.last.key) == ("gen-1", "co-test")

    def test_tool_calls(self, client: cohere.ClientV2, fake_server: FakeServer) -> None:
        fake_server.reply(content="I look.", tool_calls=client_side.CALLS)
        answer = client.chat(model=MODEL, messages=[HI], tools=THEIR_TOOLS)
        assert (answer.message.tool_plan, answer.finish_reason) == ("I look.", "TOOL_CALL")
        assert [call.model_dump() for call in answer.message.tool_calls or ()] == client_side.CALLS

    def test_a_stream(self, client: cohere.ClientV2, fake_server: FakeServer) -> None:
        fake_server.reply(content="It rains here")
        text, end = "", None
        for event in client.chat_stream(model=MODEL, messages=[HI]):
            if event.type == "content-delta":
                assert event.delta is not None
                assert event.delta.message is not None
                assert event.delta.message.content is not None
                text += event.delta.message.content.text or ""
            end = event.delta if event.type == "message-end" else end
        assert text == "It rains here"
        assert end is not None
        assert end.finish_reason == "COMPLETE"
        assert end.usage is not None
        assert end.usage.tokens is not None
        assert end.usage.tokens.output_tokens == 5

    def test_streamed_tool_calls(self, client: cohere.ClientV2, fake_server: FakeServer) -> None:
        fake_server.reply(content="I look there.", tool_calls=client_side.CALLS)
        plan, calls = "", {}
        for event in client.chat_stream(model=MODEL, messages=[HI]):
            if event.type == "tool-plan-delta":
                assert event.delta is not None
                assert event.delta.message is not None
                plan += event.delta.message.tool_plan or ""
            if event.type == "tool-call-start":
                assert event.delta is not None
                assert event.delta.message is not None
                assert event.delta.message.tool_calls is not None
                calls[event.index] = event.delta.message.tool_calls.model_dump()
            if event.type == "tool-call-delta":
                assert event.delta is not None
                assert event.delta.message is not None
                assert event.delta.message.tool_calls is not None
                assert event.delta.message.tool_calls.function is not None
                calls[event.index]["function"]["arguments"] += event.delta.message.tool_calls.function.arguments
        assert plan == "I look there."
        assert list(calls.values()) == client_side.CALLS

    def test_an_error(self, client: cohere.ClientV2, fake_server: FakeServer) -> None:
        fake_server.reply(status=400, error={"message": "too long"})
        with pytest.raises(cohere.BadRequestError) as caught:
            client.chat(model=MODEL, messages=[HI])
        assert caught.value.body == {"id": "error-1", "message": "too long"}


@dataclass
class Same:
    """One call: the arguments of the vendor's client and the fields of our request."""

    name: str
    theirs: dict[str, Any] = field(default_factory=dict)
    """Beside `temperature` and `p`, which we always send."""
    request_fields: dict[str, Any] = field(default_factory=dict)


SAME = [
    Same("plain"),
    Same(
        "system and history",
        {
            "messages": [
                cohere.SystemChatMessageV2(content="Be kind."),
                HI,
                cohere.AssistantChatMessageV2(content="Hello."),
                cohere.UserChatMessageV2(content=[cohere.TextContent(text="Again")]),
            ]
        },
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                USER,
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": [{"type": "text", "text": "Again"}]},
            ]
        },
    ),
    Same(
        "images",
        {
            "messages": [
                cohere.UserChatMessageV2(
                    content=[
                        cohere.TextContent(text="What?"),
                        cohere.ImageUrlContent(image_url=cohere.ImageUrl(url=IMAGE, detail="low")),
                        cohere.ImageUrlContent(image_url=cohere.ImageUrl(url="https://example.com/cat.png")),
                    ]
                )
            ]
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
                    ],
                }
            ]
        },
    ),
    Same("tools", {"tools": THEIR_TOOLS}, {"config": {"tools": TOOLS}}),
    Same(
        "strict tools",
        {"tools": THEIR_TOOLS, "strict_tools": True},
        {"config": {"tools": [TOOLS[0] | {"strict": True}, TOOLS[1]]}},
    ),
    Same(
        "two calls and their results",
        {
            "messages": [
                HI,
                cohere.AssistantChatMessageV2(
                    tool_plan="I look.",
                    tool_calls=[
                        cohere.ToolCallV2(
                            id=call_id,
                            function=cohere.ToolCallV2Function(name="weather", arguments=f'{{"city": "{city}"}}'),
                        )
                        for call_id, city in (("call_a", "Oslo"), ("call_b", "Bergen"))
                    ],
                ),
                cohere.ToolChatMessageV2(tool_call_id="call_a", content='{"sky": "grey"}'),
                cohere.ToolChatMessageV2(tool_call_id="call_b", content=[cohere.TextToolContent(text="wet")]),
            ],
            "tools": THEIR_TOOLS,
        },
        {
            "config": {"tools": TOOLS},
            "messages": [
                USER,
                {"role": "assistant", "content": "I look.", "tool_calls": client_side.CALLS},
                {"role": "tool", "tool_call_id": "call_a", "content": '{"sky": "grey"}'},
                {"role": "tool", "tool_call_id": "call_b", "content": [{"type": "text", "text": "wet"}]},
            ],
        },
    ),
    Same("tool_choice auto", {"tools": THEIR_TOOLS}, {"config": {"tools": TOOLS}, "tool_choice": "auto"}),
    Same(
        "tool_choice none",
        {"tools": THEIR_TOOLS, "tool_choice": "NONE"},
        {"config": {"tools": TOOLS}, "tool_choice": "none"},
    ),
    Same(
        "tool_choice required",
        {"tools": THEIR_TOOLS, "tool_choice": "REQUIRED"},
        {"config": {"tools": TOOLS}, "tool_choice": "required"},
    ),
    Same(
        "tool_choice by name",
        {"tools": [WEATHER], "tool_choice": "REQUIRED"},
        {"config": {"tools": TOOLS}, "tool_choice": client_side.choice("weather")},
    ),
    Same(
        "sampling",
        {
            "temperature": 0.5,
            "p": 0.25,
            "max_tokens": 9,
            "stop_sequences": ["\n"],
            "seed": 0,
            "presence_penalty": 0.5,
            "frequency_penalty": 1,
        },
        {
            "config": {
                "temperature": 0.5,
                "top_p": 0.25,
                "max_tokens": 9,
                "stop": "\n",
                "presence_penalty": 0.5,
                "frequency_penalty": 1,
            },
            "seed": 0,
        },
    ),
    Same(
        "JSON mode",
        {"response_format": cohere.JsonObjectResponseFormatV2()},
        {"response_format": client_side.json_format()},
    ),
    Same(
        "JSON schema",
        {"response_format": cohere.JsonObjectResponseFormatV2(json_schema=SCHEMA)},
        {"response_format": client_side.json_format(SCHEMA)},
    ),
    Same(
        "other",
        {"k": 40, "safety_mode": "STRICT"},
        {"config": {"other": {"k": 40, "safety_mode": "STRICT", "stream": None, "messages": [], "model": "x"}}},
    ),
]


class TestWeSendWhatTheVendorsClientSends:
    @pytest.mark.parametrize("same", SAME, ids=lambda same: same.name)
    @pytest.mark.parametrize("stream", [False, True])
    def test_the_same_request(
        self, client: cohere.ClientV2, fake_server: FakeServer, environment: dict[str, str], same: Same, stream: bool
    ) -> None:
        theirs: dict[str, Any] = {"model": MODEL, "messages": [HI], "temperature": 1, "p": 0.99} | same.theirs
        if stream:
            list(client.chat_stream(**theirs))
        else:
            client.chat(**theirs)
        prepared = client_side.call(environment, chat(**same.request_fields, stream=stream))
        assert prepared.body == fake_server.last.body
        assert prepared.url == fake_server.url.removesuffix("/v2") + fake_server.last.path
        assert prepared.headers["Authorization"] == fake_server.last.headers["authorization"]

    def test_a_completion_is_one_user_message(self, environment: dict[str, str]) -> None:
        prepared = client_side.call(
            environment, client_side.request({"provider": "cohere", "model": MODEL}, None, prompt="once")
        )
        assert prepared.body["messages"] == [{"role": "user", "content": "once"}]


REPLIES: list[tuple[Json, Choice]] = [
    ({"content": "It rains here."}, Choice("It rains here.", None, "stop")),
    ({"content": "It", "finish_reason": "STOP_SEQUENCE"}, Choice("It", None, "stop")),
    ({"content": "It", "finish_reason": "length"}, Choice("It", None, "length")),
    (
        {"content": "I look there.", "tool_calls": client_side.CALLS},
        Choice("I look there.", [ToolCall.model_validate(call) for call in client_side.CALLS], "tool_call"),
    ),
    (
        {"content": None, "tool_calls": client_side.CALLS[:1]},
        Choice("", [ToolCall.model_validate(client_side.CALLS[0])], "tool_call"),
    ),
]


class TestWeReadTheFakeServer:
    @pytest.mark.parametrize(("reply", "choice"), REPLIES)
    async def test_a_response_and_the_same_streamed(
        self, client: cohere.ClientV2, fake_server: FakeServer, environment: dict[str, str], reply: Json, choice: Choice
    ) -> None:
        expected = (choice, client_side.USAGE)
        for _ in range(3):
            fake_server.reply(**reply)
        assert await client_side.complete(client_side.call(environment, chat())) == expected
        prepared = client_side.call(environment, chat(stream=True))
        accumulator = await client_side.stream(prepared)
        assert (accumulator.choice(), accumulator.usage) == expected
        assert client_side.read_back(prepared, accumulator) == expected
        theirs = client.chat(model=MODEL, messages=[HI])
        said = "".join(part.text for part in theirs.message.content or () if part.type == "text")
        assert (theirs.message.tool_plan or said) == choice.text
        assert [call.model_dump() for call in theirs.message.tool_calls or ()] == [
            call.model_dump() for call in choice.tool_calls or ()
        ]
        assert theirs.usage is not None
        assert theirs.usage.tokens is not None
        prompt, generated = theirs.usage.tokens.input_tokens or 0, theirs.usage.tokens.output_tokens or 0
        assert accumulator.usage == Usage(
            prompt_tokens=int(prompt), generation_tokens=int(generated), total_tokens=int(prompt + generated)
        )

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, Invalid),
            (401, Unauthenticated),
            (403, Unauthenticated),
            (404, Invalid),
            (422, Invalid),
            (429, RateLimited),
            (498, Invalid),
            (500, UpstreamFailed),
            (503, Unavailable),
            (504, UpstreamFailed),
        ],
    )
    async def test_error_statuses(
        self, fake_server: FakeServer, environment: dict[str, str], status: int, kind: type[Problem], stream: bool
    ) -> None:
        fake_server.reply(status=status, error={"message": "no, and not with co-test"})
        with pytest.raises(kind, match=r"^no, and not with \*\*\*$") as caught:
            await _answer(environment, stream=stream)
        assert caught.value.origin == "Cohere"

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
    async def test_failures_in_a_response_are_problems(
        self, fake_server: FakeServer, environment: dict[str, str], reason: str, stream: bool
    ) -> None:
        fake_server.reply(finish_reason=reason)
        with pytest.raises(UpstreamFailed, match="its answer"):
            await _answer(environment, stream=stream)

    async def test_a_stream_that_says_why_it_failed(self, fake_server: FakeServer, environment: dict[str, str]) -> None:
        fake_server.reply(finish_reason="ERROR", error={"error": "the model fell over"})
        with pytest.raises(UpstreamFailed, match="the model fell over"):
            await _answer(environment, stream=True)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("broken", [{"garbage": True}, {"break_after_chunks": 2}])
    async def test_other_json_is_an_invalid_response(
        self, fake_server: FakeServer, environment: dict[str, str], broken: Json, stream: bool
    ) -> None:
        fake_server.reply(**broken)
        with pytest.raises(UpstreamFailed):
            await _answer(environment, stream=stream)


async def _answer(environment: dict[str, str], *, stream: bool) -> None:
    prepared = client_side.call(environment, chat(stream=stream))
    await (client_side.stream(prepared) if stream else client_side.complete(prepared))
