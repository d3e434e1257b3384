"""Conversations with providers that speak languages of their own, through generation as a process."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from shared.contracts.chat import ChatMessage, Usage
from shared.contracts.generation.generations import Chat, Generation
from shared.errors import Invalid, RateLimited
from tests.fake_servers import cohere, gemini
from tests.fake_servers.server import FakeServer
from tests.integration.generation.stack import (
    GenerationStack,
    chat,
    collect_answer,
    complete,
    config,
    run_generation_stack,
)

TOOLS = [{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
CALLS = [
    {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "b", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]
GOOGLE = {"provider": "google", "model": "gemini-3-pro"}
COHERE = {"provider": "cohere", "model": "command-a"}


@dataclass(frozen=True)
class DialectStack:
    """The service and who it speaks to."""

    generation: GenerationStack
    google: FakeServer
    cohere: FakeServer

    async def request(self, command: Chat) -> Generation:
        """The whole answer."""
        _, generation = await collect_answer(self.generation.bus, command)
        return generation


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DialectStack]:
    google, co = gemini.start(), cohere.start()
    environment = {
        "GEMINI_BASE_URL": google.url,
        "GEMINI_API_KEY": "g",
        "COHERE_BASE_URL": co.url,
        "COHERE_API_KEY": "c",
    }
    async with run_generation_stack(tmp_path_factory.mktemp("dialects"), **environment) as started:
        yield DialectStack(started, google, co)


def _answered(generation: Generation) -> list[ChatMessage]:
    """The conversation goes on as an application makes it: the message as it came, a result for each call."""
    (sample,) = generation.samples
    said = ChatMessage(role="assistant", content=sample.output, tool_calls=sample.tool_calls)
    results = [
        ChatMessage(role="tool", tool_call_id=call.id, content=f"wet {index}")
        for index, call in enumerate(sample.tool_calls or ())
    ]
    return [ChatMessage(role="user", content="How is it?"), said, *results]


@pytest.mark.parametrize("stream", [False, True])
async def test_geminis_signature_comes_back_with_its_call(stack: DialectStack, stream: bool) -> None:
    stack.google.clear()
    stack.google.reply(content="I look.", tool_calls=[CALLS[0] | {"signature": "c2ln"}, CALLS[1]])
    given = config(**GOOGLE, tools=TOOLS)
    first = chat("How is it?", config=given, stream=stream)
    generation = await stack.request(first)
    assert [sample.finish_reason for sample in generation.samples] == ["tool_call"]
    assert generation.usage == Usage(prompt_tokens=12, generation_tokens=5, total_tokens=17)
    await stack.request(chat(config=given, messages=_answered(generation), stream=stream))
    assert stack.google.last.body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "I look."},
                {"functionCall": {"id": "a", "name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "b", "name": "weather", "args": {"city": "Bergen"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a", "name": "weather", "response": {"output": "wet 0"}}},
                {"functionResponse": {"id": "b", "name": "weather", "response": {"output": "wet 1"}}},
            ],
        },
    ]
    (record,) = await stack.generation.logs(*first.log_ids)
    assert (record.finish_reason, record.prompt_tokens, record.output_tokens) == ("tool_call", 12, 5)
    assert record.provider_response is not None
    assert record.provider_response["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("stream", [False, True])
async def test_coheres_plan_comes_back_with_its_calls(stack: DialectStack, stream: bool) -> None:
    stack.cohere.clear()
    stack.cohere.reply(content="I look.", tool_calls=CALLS)
    given = config(**COHERE, tools=TOOLS)
    generation = await stack.request(chat("How is it?", config=given, stream=stream))
    assert [(sample.output, sample.finish_reason) for sample in generation.samples] == [("I look.", "tool_call")]
    await stack.request(chat(config=given, messages=_answered(generation), stream=stream))
    assert stack.cohere.last.body["messages"][1:] == [
        {"role": "assistant", "tool_plan": "I look.", "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "a", "content": "wet 0"},
        {"role": "tool", "tool_call_id": "b", "content": "wet 1"},
    ]


@pytest.mark.parametrize("provider", [GOOGLE, COHERE], ids=["google", "cohere"])
async def test_completions_samples_and_streams(stack: DialectStack, provider: dict[str, str]) -> None:
    chunks, generation = await collect_answer(
        stack.generation.bus,
        complete(config=config(**provider, endpoint="complete", prompt_template="Say hi."), num_samples=2, stream=True),
    )
    assert [sample.output for sample in generation.samples] == ["Fine, thank you."] * 2
    for index in range(2):
        told = "".join(chunk.sample.raw_output or "" for chunk in chunks if chunk.sample.index == index)
        assert told == "Fine, thank you."
    assert generation.usage.total_tokens == 2 * 17


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        ({"finish_reason": gemini.BLOCKED}, Invalid, "blocked the prompt"),
        ({"status": 429, "error": {"message": "slower"}, "headers": {"Retry-After": "70"}}, RateLimited, "slower"),
    ],
)
async def test_what_fails_is_logged_with_its_reason(
    stack: DialectStack, reply: dict[str, Any], kind: type[Exception], said: str
) -> None:
    stack.google.clear()
    stack.google.reply(**reply)
    asked = chat(config=config(**GOOGLE))
    with pytest.raises(kind, match=said):
        await stack.request(asked)
    (record,) = await stack.generation.logs(*asked.log_ids)
    assert record.error is not None
    assert said in record.error
