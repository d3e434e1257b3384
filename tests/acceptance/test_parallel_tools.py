"""Seed rows 49-55: parallel tool calling (behaviour.md §23 G). How an editor shows them is the console's to test."""

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI

CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Json] = [{"name": "weather", "description": "City weather", "parameters": PARAMETERS}]
QUESTION: Json = {"role": "user", "content": "Rain in Oslo and Bergen?"}
ASKED: Json = {"role": "assistant", "content": "", "tool_calls": CALLS}
RESULTS: list[Json] = [
    {"role": "tool", "tool_call_id": "call_1", "content": "wet"},
    {"role": "tool", "tool_call_id": "call_2", "content": "wetter"},
]


def chat(api: httpx.Client, messages: list[Json], tools: list[Json] | None = None, **fields: object) -> httpx.Response:
    config = {"model": "gpt-4-1106-preview", "tools": TOOLS if tools is None else tools}
    return api.post("/chat", json={"project": "parallel-tools", "model_config": config, "messages": messages} | fields)


def test_row_49_an_answer_may_have_several_tool_calls(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content=None, tool_calls=CALLS)
    data = ok(chat(api, [QUESTION]))["data"][0]
    assert data["tool_calls"] == CALLS
    for call in data["tool_calls"]:
        assert call["id"]
        assert call["type"] == "function"
        assert isinstance(call["function"]["name"], str)
        assert isinstance(call["function"]["arguments"], str)


def test_row_50_the_deprecated_tool_call_is_still_answered(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content=None, tool_calls=CALLS)
    assert ok(chat(api, [QUESTION]))["data"][0]["tool_call"] == CALLS[0]["function"]
    root = str(api.base_url).rstrip("/").removesuffix("/v4")
    schemas = ok(api.get(f"{root}/openapi.json"))["components"]["schemas"]
    assert schemas["ChatDataResponse"]["properties"]["tool_call"]["deprecated"] is True
    assert schemas["ChatRequest"]["properties"]["tool_call"]["deprecated"] is True


@pytest.mark.parametrize(
    ("deprecated", "sent"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ({"name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_row_50_the_deprecated_tool_call_still_chooses_the_function(
    api: httpx.Client, openai: FakeOpenAI, deprecated: object, sent: object
) -> None:
    ok(chat(api, [QUESTION], tool_call=deprecated))
    assert openai.last.body["tool_choice"] == sent
    ok(chat(api, [QUESTION], tool_call=deprecated, tool_choice="required"))
    assert openai.last.body["tool_choice"] == "required"


def test_row_51_tool_result_messages_keep_their_ids(api: httpx.Client, openai: FakeOpenAI) -> None:
    ok(chat(api, [QUESTION, ASKED, *RESULTS]))
    sent = openai.last.body["messages"]
    assert sent[2:] == RESULTS
    assert sent[1]["tool_calls"] == CALLS


def test_row_52_a_tool_message_without_its_id_is_refused(api: httpx.Client, openai: FakeOpenAI) -> None:
    answer = chat(api, [QUESTION, ASKED, {"role": "tool", "content": "wet"}])
    assert answer.status_code == 422
    assert "tool_call_id" in answer.text
    assert openai.requests == []


def test_row_53_all_tool_calls_are_in_one_message_and_each_can_be_answered(
    api: httpx.Client, openai: FakeOpenAI
) -> None:
    """What an editor needs: the log has both calls in its one assistant message, and takes an answer to each."""
    openai.reply(content="Let me look.", tool_calls=CALLS)
    data = ok(chat(api, [QUESTION]))["data"][0]
    log = ok(api.get(f"/logs/{data['id']}"))
    assert log["output_message"]["tool_calls"] == CALLS
    assert log["output_message"]["content"] == "Let me look."
    openai.reply(content="Wet in both.")
    answers = [
        {"role": "tool", "tool_call_id": call["id"], "content": "wet"} for call in log["output_message"]["tool_calls"]
    ]
    assert ok(chat(api, [QUESTION, log["output_message"], *answers]))["data"][0]["output"] == "Wet in both."


def test_row_54_tools_are_sent_as_functions_and_are_part_of_the_version(api: httpx.Client, openai: FakeOpenAI) -> None:
    first = ok(chat(api, [QUESTION]))["data"][0]["model_config_id"]
    assert openai.last.body["tools"] == [{"type": "function", "function": TOOLS[0]}]
    assert openai.last.body["tool_choice"] == "auto"
    assert ok(chat(api, [QUESTION]))["data"][0]["model_config_id"] == first
    changed = [TOOLS[0] | {"description": "Weather of a city"}]
    assert ok(chat(api, [QUESTION], changed))["data"][0]["model_config_id"] != first


@pytest.mark.parametrize("stream", [False, True])
def test_row_55_the_finish_reason_of_tool_calls_is_tool_call(
    api: httpx.Client, openai: FakeOpenAI, stream: bool
) -> None:
    openai.reply(content=None, tool_calls=CALLS)
    answer = chat(api, [QUESTION], stream=stream, project=f"parallel-{reference()}")
    if not stream:
        assert ok(answer)["data"][0]["finish_reason"] == "tool_call"
        return
    assert '"finish_reason":"tool_call"' in answer.text.strip().splitlines()[-1]
    assert '"call_2"' in answer.text.strip().splitlines()[-1]
