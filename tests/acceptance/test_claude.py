"""Seed rows 46-48: Claude 2.1 (behaviour.md §23 F)."""

from typing import Any

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.server import FakeServer
from tests.sdk_scripts import SdkScripts

CLAUDE: Json = {"provider": "anthropic", "model": "claude-2.1"}
CONTEXT_TOKENS = 200_000
OUTPUT_TOKENS = 4_096


@pytest.fixture
def anthropic(fake_providers: dict[str, FakeServer]) -> FakeServer:
    return fake_providers["anthropic"]


def chat(api: httpx.Client, text: str = "Hi", **fields: Any) -> httpx.Response:
    config = CLAUDE | fields.pop("config", {})
    messages = [{"role": "user", "content": text}]
    return api.post("/chat", json={"project": f"claude-{reference()}", "model_config": config, "messages": messages})


def test_row_46_claude_2_1_chats_and_completes(api: httpx.Client, anthropic: FakeServer) -> None:
    anthropic.reply(content=" Hello. ")
    template = [{"role": "system", "content": "Be brief."}]
    data = ok(chat(api, config={"chat_template": template}))["data"][0]
    assert (data["output"], data["finish_reason"]) == ("Hello.", "stop")
    sent = anthropic.last.body
    assert sent["model"] == "claude-2.1"
    assert "Be brief." in str(sent["system"])
    assert anthropic.last.key == "sk-ant-from-the-environment"
    anthropic.reply(content="Once.")
    completion = api.post(
        "/completion",
        json={
            "project": f"claude-{reference()}",
            "model_config": CLAUDE | {"prompt_template": "Tell me about {{what}}."},
            "inputs": {"what": "rain"},
        },
    )
    assert ok(completion)["data"][0]["output"] == "Once."
    assert "Tell me about rain." in str(anthropic.last.body["messages"])


def test_row_46_claude_2_1_is_called_through_the_sdk(sdk735: SdkScripts, anthropic: FakeServer) -> None:
    anthropic.reply(content="Hello.")
    said = sdk735.run("generation/chat_with_timeout.py", project=f"claude-{reference()}", model_config=CLAUDE)
    assert said == {"output": "Hello."}


def test_row_47_max_tokens_minus_one_is_what_is_left_of_200000(api: httpx.Client, anthropic: FakeServer) -> None:
    long = "rain " * 150_000
    data = ok(chat(api, long))["data"][0]
    assert anthropic.last.body["max_tokens"] == OUTPUT_TOKENS
    assert long.strip() in str(anthropic.last.body["messages"])
    assert data["output"] == "Fine, thank you."
    ok(chat(api, "rain " * 198_000))
    assert 1 <= anthropic.last.body["max_tokens"] < CONTEXT_TOKENS - 190_000
    ok(chat(api, config={"max_tokens": 7}))
    assert anthropic.last.body["max_tokens"] == 7


def test_row_48_tools_are_refused_before_they_are_sent(api: httpx.Client, anthropic: FakeServer) -> None:
    refused = chat(api, config={"tools": [{"name": "weather", "parameters": {"type": "object"}}]})
    assert refused.status_code == 422
    message = refused.json()["detail"]["message"]
    assert "claude-2.1" in message
    assert "tools" in message
    assert anthropic.requests == []


@pytest.mark.parametrize("field", [{"seed": 1}, {"response_format": {"type": "json_object"}}, {"presence_penalty": 1}])
def test_a_feature_that_anthropic_lacks_is_refused_by_name(
    api: httpx.Client, anthropic: FakeServer, field: Json
) -> None:
    refused = chat(api, config=field)
    assert refused.status_code == 422
    assert "Anthropic cannot do" in refused.json()["detail"]["message"]
    assert anthropic.requests == []


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_tool_call_arguments_cut_within_a_character_are_logged(
    api: httpx.Client, fake_providers: dict[str, FakeServer], provider: str
) -> None:
    broken = '{"text": "\\ud83d"}'
    calls = [{"id": "call_1", "type": "function", "function": {"name": "say", "arguments": broken}}]
    fake_providers[provider].reply(content="Hm.", tool_calls=calls)
    project = f"cut-{reference()}"
    body = {
        "project": project,
        "model_config": {"provider": provider, "model": "model-of-tomorrow", "tools": [{"name": "say"}]},
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    assert api.post("/chat", json=body).status_code == 200
    found = ok(api.get("/projects", params={"filter": project}))["records"][0]
    (log,) = ok(api.get("/logs", params={"project_id": found["id"]}))["records"]
    assert log["error"] is None
    assert log["output_message"]["tool_calls"][0]["function"]["arguments"] == broken
