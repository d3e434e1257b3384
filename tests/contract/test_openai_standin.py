"""The stand-in for OpenAI speaks as OpenAI's own client library expects; else the tests on it would prove nothing."""

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.standins import openai as standin_module
from tests.standins.openai import OpenAIStandIn

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]


@pytest.fixture(scope="module")
def standin() -> OpenAIStandIn:
    return standin_module.start()


@pytest.fixture
def client(standin: OpenAIStandIn) -> openai.OpenAI:
    standin.clear()
    return openai.OpenAI(api_key="sk-test", base_url=standin.url, max_retries=0)


def test_chat(client: openai.OpenAI, standin: OpenAIStandIn) -> None:
    standin.reply(content="Hello.", tool_calls=CALLS)
    answer = client.chat.completions.create(model="gpt-4", messages=MESSAGES, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    message = answer.choices[0].message
    assert message.content == "Hello."
    assert message.tool_calls is not None
    assert [call.id for call in message.tool_calls] == ["call_1", "call_2"]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 17
    assert standin.last.key == "sk-test"


def test_streamed_chat(client: openai.OpenAI, standin: OpenAIStandIn) -> None:
    standin.reply(content="It rains", tool_calls=CALLS)
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


def test_completion(client: openai.OpenAI, standin: OpenAIStandIn) -> None:
    standin.reply(content="Sweden")
    answer = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Who won?")
    assert answer.choices[0].text == "Sweden"


def test_error(client: openai.OpenAI, standin: OpenAIStandIn) -> None:
    standin.reply(status=400, error={"message": "too long", "type": "invalid_request_error"})
    with pytest.raises(openai.BadRequestError, match="too long"):
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
