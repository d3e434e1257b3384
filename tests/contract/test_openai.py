"""OpenAI's client library reads the fake server, and its types accept what this service sends."""

import typing
from typing import Any

import openai
import pytest
from openai.types import completion_create_params
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic._internal import _generate_schema
from pydantic_core import core_schema

from services.generation.models.request import ModelRequest
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage, FunctionChoice, FunctionName, ResponseFormat
from shared.contracts.generation.projects import ModelConfig
from tests.fake_servers import openai as fake
from tests.fake_servers.openai import FakeOpenAI

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]


TOOL = {
    "name": "weather",
    "description": "The weather of a town",
    "parameters": {"type": "object", "properties": {"city": {"type": ["string", "null"], "default": None}}},
    "strict": True,
}
PARTS = [
    {"type": "text", "text": "What is it?"},
    {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png", "detail": "high"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
]
HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": PARTS, "name": "ada"},
    {"role": "assistant", "content": "", "tool_calls": CALLS, "tool_call": CALLS[0]["function"]},
    {"role": "tool", "content": "wet", "tool_call_id": "call_1"},
    {"role": "tool", "content": [{"type": "text", "text": "dry"}], "tool_call_id": "call_2"},
    {"role": "assistant", "content": None, "tool_call": {"name": "weather", "arguments": "{}"}},
    {"role": "assistant", "content": "Wet and dry.", "tool_calls": []},
]
FORMAT = ResponseFormat(
    type="json_schema", json_schema={"name": "n", "schema": {"enum": [None, 1], "default": None}, "strict": None}
)


@pytest.fixture(scope="module")
def fake_server() -> FakeOpenAI:
    return fake.start()


@pytest.fixture
def client(fake_server: FakeOpenAI) -> openai.OpenAI:
    fake_server.clear()
    return openai.OpenAI(api_key="sk-test", base_url=fake_server.url, max_retries=0)


def test_chat(client: openai.OpenAI, fake_server: FakeOpenAI) -> None:
    fake_server.reply(content="Hello.", tool_calls=CALLS)
    answer = client.chat.completions.create(model="gpt-4", messages=MESSAGES, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    message = answer.choices[0].message
    assert message.content == "Hello."
    assert message.tool_calls is not None
    assert [call.id for call in message.tool_calls] == ["call_1", "call_2"]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 17
    assert fake_server.last.key == "sk-test"


def test_streamed_chat(client: openai.OpenAI, fake_server: FakeOpenAI) -> None:
    fake_server.reply(content="It rains", tool_calls=CALLS)
    text, names, finish, usage = "", [], None, None
    with client.chat.completions.create(
        model="gpt-4", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                names += [call.function.name for call in choice.delta.tool_calls or () if call.function]
                finish = choice.finish_reason or finish
    assert (text.strip(), names, finish) == ("It rains", ["weather", "weather"], "tool_calls")
    assert usage is not None


def test_completion(client: openai.OpenAI, fake_server: FakeOpenAI) -> None:
    fake_server.reply(content="Sweden")
    answer = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Who won?")
    assert answer.choices[0].text == "Sweden"


def test_error(client: openai.OpenAI, fake_server: FakeOpenAI) -> None:
    fake_server.reply(status=400, error={"message": "too long", "type": "invalid_request_error"})
    with pytest.raises(openai.BadRequestError, match="too long"):
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)


# What this service sends


def _request(fields: dict[str, Any], **more: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"model": "gpt-4o", "endpoint": "chat"} | fields)
    return ModelRequest(config, [ChatMessage.model_validate(message) for message in HISTORY], **more)


def _prompt(fields: dict[str, Any], **more: Any) -> ModelRequest:
    return ModelRequest(ModelConfig.model_validate({"model": "gpt-3.5-turbo-instruct"} | fields), prompt="Once", **more)


NAMED = FunctionChoice(function=FunctionName(name="weather"))
REQUESTS = {
    "plain": _request({}),
    "sampling": _request(
        {"temperature": 0.3, "top_p": 0.8, "presence_penalty": 0.1, "frequency_penalty": -0.1, "max_tokens": 9},
        samples=3,
        seed=7,
        user="u-1",
        logprobs=4,
    ),
    "one stop": _request({"stop": "###"}),
    "stops": _request({"stop": ["###", "END"], "other": {"logit_bias": {"50256": -100}, "store": False}}),
    "stream": _request({}, stream=True),
    "tools": _request({"tools": [TOOL]}, tool_choice=NAMED),
    "required tools": _request({"tools": [TOOL]}, tool_choice="required"),
    "JSON": _request({}, response_format=ResponseFormat(type="json_object")),
    "schema": _request({}, response_format=FORMAT),
    "reasoning": _request({"model": "o4-mini", "max_tokens": 9, "other": {"reasoning_effort": "low"}}, seed=1),
    "reasoning, told all the same": _request({"model": "gpt-5.1", "temperature": 0.2, "presence_penalty": 1}),
    "completion": _prompt({}),
    "insertion": _prompt({"max_tokens": 5, "stop": "."}, suffix="end", logprobs=0, samples=2, user="u", seed=3),
    "streamed completion": _prompt({}, stream=True),
}
_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def _types(call: PreparedRequest) -> tuple[Any, ...]:
    chat = call.request.messages is not None
    params = chat_create_params if chat else completion_create_params
    return typing.get_args(params.CompletionCreateParams)


@pytest.fixture
def iterables_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library declares lists as iterables. pydantic validates those as they are read, and fails on nested ones
    (pydantic-core 2.50 panics); what is validated here are lists."""

    def list_schema(self: Any, type_: Any) -> Any:
        return core_schema.list_schema(self.generate_schema(typing.get_args(type_)[0]))

    monkeypatch.setattr(_generate_schema.GenerateSchema, "_iterable_schema", list_schema)


@pytest.mark.usefixtures("iterables_are_lists")
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_body_has_the_librarys_type(request_: ModelRequest) -> None:
    (call,) = Providers({"OPENAI_API_KEY": "sk"}, None).prepare(request_, {})
    whole, streamed = _types(call)
    type_: Any = list[streamed if request_.stream else whole]  # type: ignore[misc]
    (validated,) = TypeAdapter(type_, config=_STRICT).validate_python([call.body])
    assert validated == call.body


@pytest.mark.usefixtures("iterables_are_lists")
def test_the_library_s_type_knows_every_field() -> None:
    (call,) = Providers({"OPENAI_API_KEY": "sk"}, None).prepare(REQUESTS["plain"], {})
    type_: Any = list[_types(call)[0]]  # type: ignore[misc]
    adapter = TypeAdapter(type_, config=_STRICT)
    for wrong in ({"colour": 1}, {"messages": [{"role": "user", "content": "Hi", "colour": 1}]}):
        with pytest.raises(ValidationError, match="colour"):
            adapter.validate_python([call.body | wrong])


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_the_library_sends_the_same(request_: ModelRequest, fake_server: FakeOpenAI) -> None:
    fake_server.clear()
    providers = Providers({"OPENAI_BASE_URL": fake_server.url, "OPENAI_API_KEY": "sk-test"}, None)
    await _assert_same(providers, request_, openai.OpenAI(api_key="sk-test", base_url=fake_server.url), fake_server)


@pytest.mark.parametrize("name", ["sampling", "stream", "tools", "completion"])
async def test_the_library_calls_azure_the_same_way(name: str, fake_server: FakeOpenAI) -> None:
    fake_server.clear()
    endpoint = fake_server.url.removesuffix("/v1")
    library = openai.AzureOpenAI(api_key="az-test", azure_endpoint=endpoint, api_version="2024-10-21")
    request = REQUESTS[name]
    providers = Providers({"AZURE_OPENAI_ENDPOINT": endpoint + "/", "AZURE_OPENAI_API_KEY": "az-test"}, None)
    azure = ModelRequest(**vars(request) | {"config": request.config.model_copy(update={"provider": "openai_azure"})})
    await _assert_same(providers, azure, library, fake_server)
    assert "/openai/deployments/" in fake_server.last.path
    assert fake_server.last.headers["api-key"] == "az-test"
    assert "authorization" not in fake_server.last.headers


async def _assert_same(
    providers: Providers, request: ModelRequest, library: openai.OpenAI, fake_server: FakeOpenAI
) -> None:
    (call,) = providers.prepare(request, {})
    client = Client(5.0, {})
    if request.stream:
        assert [chunk async for chunk in client.stream(call)]
    else:
        await client.complete(call)
    await client.close()
    create: Any = library.chat.completions.create if request.messages is not None else library.completions.create
    with library:
        answer = create(**call.body)
        if request.stream:
            list(answer)
    ours, theirs = fake_server.requests
    assert ours.body == theirs.body
    assert (ours.method, ours.path, ours.key) == (theirs.method, theirs.path, theirs.key)
