"""Seed rows 27-30: the assistant message of a chat answer (behaviour.md §23 C)."""

from typing import Any

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts

CONFIG: Json = {"model": "gpt-4-1106-preview", "chat_template": [{"role": "system", "content": "Be {{tone}}."}]}
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]
TOOLS = [{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]


def three_ways(api: httpx.Client, config: Json, **fields: Any) -> dict[str, Json]:
    """The same chat through every chat endpoint."""
    project = f"rows-chat-{reference()}"
    registered = ok(api.post("/model-configs", json={**config, "endpoint": "chat", "project": project}))
    common = {
        "project": project,
        "inputs": {"tone": "brief"},
        "messages": [{"role": "user", "content": "Hi"}],
        **fields,
    }
    return {
        "chat": ok(api.post("/chat", json={**common, "model_config": config})),
        "chat-deployed": ok(api.post("/chat-deployed", json=common)),
        "chat-model-config": ok(
            api.post("/chat-model-config", json={**common, "model_config_id": registered["config"]["id"]})
        ),
    }


def test_row_27_output_message_on_all_chat_endpoints(api: httpx.Client, openai: FakeOpenAI) -> None:
    for _ in range(3):
        openai.reply(content="It rains.")
    answers = three_ways(api, CONFIG)
    assert len(answers) == 3
    for answer in answers.values():
        assert answer["data"][0]["output_message"] == {
            "role": "assistant",
            "content": "It rains.",
            "name": None,
            "tool_call_id": None,
            "tool_calls": None,
            "tool_call": None,
        }


def test_row_27_output_message_carries_the_tool_calls(api: httpx.Client, openai: FakeOpenAI) -> None:
    for _ in range(3):
        openai.reply(content=None, tool_calls=CALLS)
    for answer in three_ways(api, CONFIG | {"tools": TOOLS}).values():
        message = answer["data"][0]["output_message"]
        assert message["role"] == "assistant"
        assert message["content"] == ""
        assert message["tool_calls"] == CALLS


def test_row_28_the_older_fields_remain(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content="Calling.", tool_calls=CALLS)
    answer = three_ways(api, CONFIG | {"tools": TOOLS})["chat"]
    data = answer["data"][0]
    assert data["output"] == data["raw_output"] == "Calling."
    assert data["tool_calls"] == CALLS
    assert data["tool_call"] == CALLS[0]["function"]
    assert data["finish_reason"] == "tool_call"
    assert data["model_config_id"].startswith("config_")
    assert [(message["role"], message["content"]) for message in data["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hi"),
    ]
    assert set(data["messages"][0]) == {"role", "content", "name", "tool_call_id", "tool_calls", "tool_call"}


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_29_an_output_message_can_be_sent_back_as_history(
    sdk: str, openai: FakeOpenAI, request: pytest.FixtureRequest
) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    openai.reply(content="Hello.")
    openai.reply(content=None, tool_calls=CALLS)
    openai.reply(content="Wet in both.")
    done = scripts.run(
        "generation/reuse_output_message.py", project=f"rows-history-{reference()}", drop_tool_call=sdk == "sdk700"
    )
    assert done["final"] == "Wet in both."
    assert openai.requests[1].body["messages"][1] == {"role": "assistant", "content": "Hello."}
    sent = openai.last.body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "tool", "tool"]
    assert sent[3]["tool_calls"] == CALLS
    assert [message["tool_call_id"] for message in sent[4:]] == ["call_1", "call_2"]


def test_row_30_output_is_trimmed_and_raw_output_is_not(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content="\n  It rains.  \n")
    data = three_ways(api, CONFIG)["chat"]["data"][0]
    assert data["output"] == "It rains."
    assert data["raw_output"] == "\n  It rains.  \n"
