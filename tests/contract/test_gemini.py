"""Gemini: Google's own client library, our dialect and the fake server write and read the same."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from services.generation.models.request import Choice
from shared.contracts.chat import FunctionCall, ToolCall
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, Unavailable, UpstreamFailed
from tests.contract import client_side
from tests.fake_servers import gemini as fake
from tests.fake_servers.gemini import BLOCKED
from tests.fake_servers.server import FakeServer, Json

MODEL = "gemini-2.5-flash"
PNG = bytes.fromhex("89504e470d0a1a0a")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"name": "weather", "description": "Now.", "parameters": SCHEMA, "source": "inline"}, {"name": "time"}]
THEIR_TOOLS = [
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(name="weather", description="Now.", parameters_json_schema=SCHEMA),
            types.FunctionDeclaration(name="time"),
        ]
    )
]
USER = {"role": "user", "content": "Hi"}
SIGNATURE = base64.b64encode(b"what it thought").decode()


@pytest.fixture(scope="module")
def fake_server() -> FakeServer:
    return fake.start()


@pytest.fixture(autouse=True)
def _fresh(fake_server: FakeServer) -> None:
    fake_server.clear()


@pytest.fixture(scope="module")
def client(fake_server: FakeServer) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=fake_server.url.removesuffix("/v1beta"), api_version="v1beta")
    with genai.Client(api_key="g-test", http_options=options) as prepared:
        yield prepared


@pytest.fixture
def environment(fake_server: FakeServer) -> dict[str, str]:
    return {"GEMINI_BASE_URL": fake_server.url, "GEMINI_API_KEY": "g-test"}


def chat(**fields: Any) -> Any:
    config = {"provider": "google", "model": MODEL} | fields.pop("config", {})
    return client_side.request(config, fields.pop("messages", [USER]), **fields)


class TestTheVendorsClientReadsTheFakeServer:
    def test_a_response(self, client: genai.Client, fake_server: FakeServer) -> None:
        fake_server.reply(content="Hello.", tool_calls=client_side.CALLS)
        answer = client.models.generate_content(model=MODEL, contents="Hi")
        assert [part.text for part in _parts(answer) if part.text and not part.thought] == ["Hello."]
        assert [(call.id, call.name, call.args) for call in answer.function_calls or ()] == [
            ("call_a", "weather", {"city": "Oslo"}),
            ("call_b", "weather", {"city": "Bergen"}),
        ]
        assert answer.candidates is not None
        assert answer.candidates[0].finish_reason == types.FinishReason.STOP
        assert answer.usage_metadata is not None
        assert (answer.usage_metadata.candidates_token_count, answer.usage_metadata.thoughts_token_count) == (3, 2)
        assert answer.usage_metadata.total_token_count == 17
        assert (answer.model_version, fake_server.last.key) == (MODEL, "g-test")

    def test_a_stream(self, client: genai.Client, fake_server: FakeServer) -> None:
        fake_server.reply(content="It rains here", tool_calls=client_side.CALLS)
        text, names, finish = "", [], None
        for event in client.models.generate_content_stream(model=MODEL, contents="Hi"):
            for part in _parts(event):
                text += "" if part.thought else part.text or ""
                names += [part.function_call.name] if part.function_call else []
            finish = (event.candidates or [types.Candidate()])[0].finish_reason or finish
        assert (text, names, finish) == ("It rains here", ["weather", "weather"], types.FinishReason.STOP)

    def test_a_blocked_prompt(self, client: genai.Client, fake_server: FakeServer) -> None:
        fake_server.reply(finish_reason=BLOCKED)
        answer = client.models.generate_content(model=MODEL, contents="Hi")
        assert answer.candidates is None
        assert answer.prompt_feedback is not None
        assert answer.prompt_feedback.block_reason == types.BlockedReason.SAFETY

    def test_an_error(self, client: genai.Client, fake_server: FakeServer) -> None:
        fake_server.reply(status=400, error={"message": "too long"})
        with pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model=MODEL, contents="Hi")
        assert (caught.value.code, caught.value.message, caught.value.status) == (400, "too long", "INVALID_ARGUMENT")


@dataclass
class Same:
    """One call: the arguments of the vendor's client and the fields of our request."""

    name: str
    contents: Any
    config: dict[str, Any] = field(default_factory=dict)
    """For the vendor's client, beside `temperature` and `top_p`, which we always send."""
    request_fields: dict[str, Any] = field(default_factory=dict)


def _text(role: str, text: str) -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=text)])


def _asked_call(call_id: str, city: str, signature: bytes | None = None) -> types.Part:
    function = types.FunctionCall(id=call_id, name="weather", args={"city": city})
    return types.Part(function_call=function, thought_signature=signature)


def _answered(call_id: str, response: Json) -> types.Part:
    return types.Part(function_response=types.FunctionResponse(id=call_id, name="weather", response=response))


def _choosing(mode: str, names: list[str] | None = None) -> types.ToolConfig:
    calling = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode(mode), allowed_function_names=names)
    return types.ToolConfig(function_calling_config=calling)


def _two_calls(first_id: str = "call_a") -> list[Json]:
    first, second = client_side.CALLS
    return [
        USER,
        {"role": "assistant", "content": "I look.", "tool_calls": [first | {"id": first_id}, second]},
        {"role": "tool", "tool_call_id": first_id, "content": '{"sky": "grey"}'},
        {"role": "tool", "tool_call_id": "call_b", "content": "wet"},
    ]


SAME = [
    Same("plain", [_text("user", "Hi")]),
    Same(
        "system and history",
        [_text("user", "Hi"), _text("model", "Hello."), _text("user", "Again"), _text("user", "And again")],
        {"system_instruction": types.Content(parts=[types.Part(text="Be kind."), types.Part(text="Be short.")])},
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                USER,
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "Again"},
                {"role": "system", "content": [{"type": "text", "text": "Be short."}]},
                {"role": "user", "content": "And again"},
            ]
        },
    ),
    Same(
        "image",
        [
            types.Content(
                role="user",
                parts=[types.Part(text="What?"), types.Part(inline_data=types.Blob(data=PNG, mime_type="image/png"))],
            )
        ],
        {},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"},
                        },
                    ],
                }
            ]
        },
    ),
    Same("tools", [_text("user", "Hi")], {"tools": THEIR_TOOLS}, {"config": {"tools": TOOLS}}),
    Same(
        "two calls and their results",
        [
            _text("user", "Hi"),
            types.Content(
                role="model",
                parts=[types.Part(text="I look."), _asked_call("call_a", "Oslo"), _asked_call("call_b", "Bergen")],
            ),
            types.Content(
                role="user", parts=[_answered("call_a", {"sky": "grey"}), _answered("call_b", {"output": "wet"})]
            ),
        ],
        {"tools": THEIR_TOOLS},
        {"config": {"tools": TOOLS}, "messages": _two_calls()},
    ),
    Same(
        "a signed call",
        [
            _text("user", "Hi"),
            types.Content(
                role="model",
                parts=[
                    types.Part(text="I look."),
                    _asked_call("call_a", "Oslo", b"what it thought"),
                    _asked_call("call_b", "Bergen"),
                ],
            ),
            types.Content(
                role="user", parts=[_answered("call_a", {"sky": "grey"}), _answered("call_b", {"output": "wet"})]
            ),
        ],
        {"tools": THEIR_TOOLS},
        {"config": {"tools": TOOLS}, "messages": _two_calls(f"call_a~{SIGNATURE}")},
    ),
    *(
        Same(
            f"tool_choice {choice}",
            [_text("user", "Hi")],
            {"tools": THEIR_TOOLS, "tool_config": theirs},
            {"config": {"tools": TOOLS}, "tool_choice": choice},
        )
        for choice, theirs in [
            ("auto", _choosing("AUTO")),
            ("none", _choosing("NONE")),
            ("required", _choosing("ANY")),
        ]
    ),
    Same(
        "tool_choice by name",
        [_text("user", "Hi")],
        {"tools": THEIR_TOOLS, "tool_config": _choosing("ANY", ["weather"])},
        {"config": {"tools": TOOLS}, "tool_choice": client_side.choice("weather")},
    ),
    Same(
        "sampling",
        [_text("user", "Hi")],
        {
            "temperature": 0.5,
            "top_p": 0.25,
            "max_output_tokens": 9,
            "stop_sequences": ["\n"],
            "seed": 0,
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "response_logprobs": True,
            "logprobs": 3,
        },
        {
            "config": {
                "temperature": 0.5,
                "top_p": 0.25,
                "max_tokens": 9,
                "stop": "\n",
                "presence_penalty": 0.5,
                "frequency_penalty": -0.5,
            },
            "seed": 0,
            "logprobs": 3,
        },
    ),
    Same(
        "JSON mode",
        [_text("user", "Hi")],
        {"response_mime_type": "application/json"},
        {"response_format": client_side.json_format()},
    ),
    Same(
        "JSON schema",
        [_text("user", "Hi")],
        {"response_mime_type": "application/json", "response_json_schema": SCHEMA},
        {"response_format": client_side.json_format(SCHEMA)},
    ),
    Same(
        "other",
        [_text("user", "Hi")],
        {
            "top_k": 40,
            "thinking_config": types.ThinkingConfig(thinking_budget=0),
            "safety_settings": [
                types.SafetySetting(
                    category=types.HarmCategory.HARM_CATEGORY_HARASSMENT, threshold=types.HarmBlockThreshold.BLOCK_NONE
                )
            ],
        },
        {
            "config": {
                "other": {
                    "generationConfig": {"topK": 40, "thinkingConfig": {"thinkingBudget": 0}},
                    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
                    "contents": [],
                }
            }
        },
    ),
]


_FREE = {"args", "response", "parametersJsonSchema", "responseJsonSchema"}
"""JSON of the caller's own."""


def _spelt(value: Any) -> Any:
    """Rename fields that their client writes in snake_case; the API accepts both (protobuf's JSON mapping)."""
    if isinstance(value, list):
        return [_spelt(item) for item in value]
    if not isinstance(value, dict):
        return value
    spelt = {re.sub("_([a-z])", lambda found: found[1].upper(), key): item for key, item in value.items()}
    return {key: item if key in _FREE else _spelt(item) for key, item in spelt.items()}


class TestWeSendWhatTheVendorsClientSends:
    @pytest.mark.parametrize("same", SAME, ids=lambda same: same.name)
    @pytest.mark.parametrize("stream", [False, True])
    def test_the_same_request(
        self, client: genai.Client, fake_server: FakeServer, environment: dict[str, str], same: Same, stream: bool
    ) -> None:
        config = types.GenerateContentConfig(**{"temperature": 1, "top_p": 1} | same.config)
        if stream:
            list(client.models.generate_content_stream(model=MODEL, contents=same.contents, config=config))
        else:
            client.models.generate_content(model=MODEL, contents=same.contents, config=config)
        prepared = client_side.call(environment, chat(**same.request_fields, stream=stream))
        assert prepared.body == _spelt(fake_server.last.body)
        assert prepared.url == fake_server.url.removesuffix("/v1beta") + fake_server.last.path
        assert prepared.headers.items() <= fake_server.last.headers.items()

    @pytest.mark.parametrize("same", SAME, ids=lambda same: same.name)
    def test_the_vendors_types_accept_the_body(self, environment: dict[str, str], same: Same) -> None:
        body = client_side.call(environment, chat(**same.request_fields)).body
        contents, settings = body.pop("contents"), body.pop("generationConfig")
        for content in contents:
            types.Content.model_validate(content)
        taken = types.GenerateContentConfig.model_validate(body | settings)
        assert (taken.temperature, taken.top_p) == (settings["temperature"], settings["topP"])

    def test_a_completion_is_one_user_message(self, environment: dict[str, str]) -> None:
        prepared = client_side.call(
            environment, client_side.request({"provider": "google", "model": MODEL}, None, prompt="once")
        )
        assert prepared.body["contents"] == [{"role": "user", "parts": [{"text": "once"}]}]


def _parts(answer: types.GenerateContentResponse) -> list[types.Part]:
    content = (answer.candidates or [types.Candidate()])[0].content
    return (content and content.parts) or []


def _oslo(call_id: str) -> ToolCall:
    return ToolCall(id=call_id, function=FunctionCall(name="weather", arguments='{"city": "Oslo"}'))


def _bergen(call_id: str) -> ToolCall:
    return ToolCall(id=call_id, function=FunctionCall(name="weather", arguments='{"city": "Bergen"}'))


REPLIES: list[tuple[Json, Choice]] = [
    ({"content": "It rains here."}, Choice("It rains here.", None, "stop")),
    ({"content": "It", "finish_reason": "length"}, Choice("It", None, "length")),
    (
        {"content": "I look.", "tool_calls": client_side.CALLS},
        Choice("I look.", [_oslo("call_a"), _bergen("call_b")], "tool_call"),
    ),
    # As Gemini 3 does: signed, the first call alone.
    (
        {"content": None, "tool_calls": [client_side.CALLS[0] | {"signature": SIGNATURE}, client_side.CALLS[1]]},
        Choice("", [_oslo(f"call_a~{SIGNATURE}"), _bergen("call_b")], "tool_call"),
    ),
    # As Gemini 2 does: no ids.
    (
        {"content": None, "tool_calls": [{"function": call["function"]} for call in client_side.CALLS]},
        Choice("", [_oslo(""), _bergen("")], "tool_call"),
    ),
    (
        {"content": None, "tool_calls": [{"function": client_side.CALLS[0]["function"], "signature": SIGNATURE}]},
        Choice("", [_oslo(f"~{SIGNATURE}")], "tool_call"),
    ),
]


class TestWeReadTheFakeServer:
    @pytest.mark.parametrize(("reply", "choice"), REPLIES)
    async def test_a_response_and_the_same_streamed(
        self, client: genai.Client, fake_server: FakeServer, environment: dict[str, str], reply: Json, choice: Choice
    ) -> None:
        expected = (choice, client_side.USAGE)
        for _ in range(3):
            fake_server.reply(**reply)
        assert await client_side.complete(client_side.call(environment, chat())) == expected
        prepared = client_side.call(environment, chat(stream=True))
        accumulator = await client_side.stream(prepared)
        assert (accumulator.choice(), accumulator.usage) == expected
        assert client_side.read_back(prepared, accumulator) == expected
        theirs = client.models.generate_content(model=MODEL, contents="Hi")
        parts = _parts(theirs)
        assert "".join(part.text or "" for part in parts if not part.thought) == choice.text
        assert [(call.name, json.dumps(call.args)) for call in theirs.function_calls or ()] == [
            (call.function.name, call.function.arguments) for call in choice.tool_calls or ()
        ]
        assert [part.thought_signature for part in parts if part.function_call] == [
            base64.b64decode(call.id.partition("~")[2]) or None for call in choice.tool_calls or ()
        ]

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, Invalid),
            (401, Unauthenticated),
            (403, Unauthenticated),
            (404, Invalid),
            (429, RateLimited),
            (500, UpstreamFailed),
            (503, Unavailable),
            (504, UpstreamFailed),
        ],
    )
    async def test_error_statuses(
        self, fake_server: FakeServer, environment: dict[str, str], status: int, kind: type[Problem], stream: bool
    ) -> None:
        fake_server.reply(status=status, error={"message": "no, and not with g-test"})
        with pytest.raises(kind, match=r"^no, and not with \*\*\*$") as caught:
            await _answer(environment, stream=stream)
        assert caught.value.origin == "Google"

    @pytest.mark.parametrize("message", ["API key not valid. Please pass a valid API key.", "API key expired. Renew."])
    async def test_a_wrong_key(self, fake_server: FakeServer, environment: dict[str, str], message: str) -> None:
        fake_server.reply(status=400, error={"message": message})
        with pytest.raises(Unauthenticated, match="API key"):
            await _answer(environment, stream=False)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("reason", "kind", "said"),
        [
            (BLOCKED, Invalid, r"blocked the prompt \(SAFETY\)"),
            ("SAFETY", Invalid, r"withheld the answer \(SAFETY\)"),
            ("IMAGE_SAFETY", Invalid, r"withheld the answer \(IMAGE_SAFETY\)"),
            ("MALFORMED_FUNCTION_CALL", UpstreamFailed, "MALFORMED_FUNCTION_CALL"),
        ],
    )
    async def test_failures_in_a_response_are_problems(
        self,
        fake_server: FakeServer,
        environment: dict[str, str],
        reason: str,
        kind: type[Problem],
        said: str,
        stream: bool,
    ) -> None:
        fake_server.reply(finish_reason=reason, content=None)
        with pytest.raises(kind, match=said):
            await _answer(environment, stream=stream)

    async def test_a_stream_that_a_filter_cuts_off_is_an_answer_and_marked(
        self, fake_server: FakeServer, environment: dict[str, str]
    ) -> None:
        fake_server.reply(content="Once upon a", finish_reason="SAFETY")
        prepared = client_side.call(environment, chat(stream=True))
        accumulator = await client_side.stream(prepared)
        assert accumulator.choice() == Choice("Once upon a", None, "stop", "SAFETY")
        assert client_side.read_back(prepared, accumulator)[0] == accumulator.choice()

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
