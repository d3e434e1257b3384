"""Seed rows 46-48, 62, 67-71, 102: which models there are, what they can and cannot do, what they cost."""

import time
from typing import Any

import httpx
import pytest

from tests import stack as stacks
from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts

PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "low"}}
QUESTION = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]}]
TOOLS = [{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
JSON_MODE = {"type": "json_object"}
TURBOS = ["gpt-4-1106-preview", "gpt-3.5-turbo-1106"]


@pytest.fixture(scope="module")
def models_by_name(stack: stacks.Stack) -> dict[tuple[str, str], Json]:
    """`GET /api/models`, by provider and name."""
    headers = {"X-API-KEY": stack.api_key}
    models = ok(httpx.get(f"{stack.base_url}/api/models", headers=headers, timeout=60))["models"]
    return {(model["provider"], model["name"]): model for model in models}


def chat(api: httpx.Client, model: str, content: Any = "Say json.", **fields: Any) -> httpx.Response:
    """One chat with an inline config; `config` and `body` add to it."""
    config = {"model": model} | fields.pop("config", {})
    messages = fields.pop("messages", [{"role": "user", "content": content}])
    body = {"project": f"rows-models-{reference()}", "model_config": config, "messages": messages}
    return api.post("/chat", json=body | fields)


def refused(response: httpx.Response, *said: str) -> None:
    assert response.status_code == 422, response.text
    for words in said:
        assert words in response.text


def test_listing_models_needs_a_key(stack: stacks.Stack) -> None:
    assert httpx.get(f"{stack.base_url}/api/models", timeout=60).status_code == 401


def test_row_46_and_47_claude_2_1_is_listed_with_200000_tokens(models_by_name: dict[tuple[str, str], Json]) -> None:
    claude = models_by_name["anthropic", "claude-2.1"]
    assert claude["context_tokens"] == 200_000
    assert (claude["prompt_usd"], claude["output_usd"]) == (8, 24)
    assert claude["source"].startswith("https://")


def test_row_48_claude_2_1_is_listed_without_tools(models_by_name: dict[tuple[str, str], Json]) -> None:
    assert "tools" in models_by_name["anthropic", "claude-2.1"]["lacks"]


def test_row_62_the_vision_model_is_listed_and_callable_when_deployed(
    api: httpx.Client, openai: FakeOpenAI, models_by_name: dict[tuple[str, str], Json], sdk735: SdkScripts
) -> None:
    assert "images" not in models_by_name["openai", "gpt-4-vision-preview"]["lacks"]
    project = f"rows-models-{reference()}"
    config = {"model": "gpt-4-vision-preview", "max_tokens": 99, "endpoint": "chat"}
    ok(api.post("/model-configs", json={**config, "project": project}))
    openai.reply(content="A cat.")
    said = sdk735.run("generation/deployed_vision_config_and_refused_image.py", project=project, messages=QUESTION)
    assert said["output"] == "A cat."
    assert openai.last.body["model"] == "gpt-4-vision-preview"
    assert openai.last.body["messages"] == QUESTION
    assert said["refusal"]["status"] == 422
    assert "cannot do images" in str(said["refusal"]["body"])


@pytest.mark.parametrize("model", ["gpt-3.5-turbo", "gpt-3.5-turbo-1106", "gpt-4-0613", "gpt-4-1106-preview"])
def test_row_67_an_image_for_a_model_without_vision_is_refused(
    api: httpx.Client, openai: FakeOpenAI, model: str
) -> None:
    refused(chat(api, model, messages=QUESTION), f"The model '{model}' cannot do images", "send text only")
    assert openai.requests == []


def test_row_67_an_image_in_completion_mode_is_refused(api: httpx.Client, openai: FakeOpenAI) -> None:
    config = {"model": "gpt-4-vision-preview", "prompt_template": QUESTION[0]["content"]}
    body = {"project": f"rows-models-{reference()}", "model_config": config, "inputs": {}}
    refused(api.post("/completion", json=body), "prompt_template", "string")
    assert openai.requests == []


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"config": {"tools": TOOLS}}, "tools"),
        ({"config": {"response_format": JSON_MODE}}, "JSON mode"),
        ({"response_format": JSON_MODE}, "JSON mode"),
    ],
)
def test_row_68_the_vision_model_refuses_tools_and_json_mode(
    api: httpx.Client, openai: FakeOpenAI, fields: Json, feature: str
) -> None:
    answer = chat(api, "gpt-4-vision-preview", messages=QUESTION, **fields)
    refused(answer, f"The model 'gpt-4-vision-preview' cannot do {feature}")
    assert openai.requests == []


def test_row_69_an_image_in_the_system_message_is_refused(api: httpx.Client, openai: FakeOpenAI) -> None:
    messages = [{"role": "system", "content": [PICTURE]}, {"role": "user", "content": "What is it?"}]
    answer = chat(api, "gpt-4-vision-preview", messages=messages)
    refused(answer, "cannot do images in the system message", "put the image into a user message")
    template = chat(api, "gpt-4-vision-preview", config={"chat_template": messages[:1]})
    refused(template, "cannot do images in the system message")
    assert openai.requests == []


def test_row_70_json_mode_is_forwarded(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content='{"fine": true}')
    answer = ok(chat(api, TURBOS[0], config={"response_format": JSON_MODE}))
    assert openai.last.body["response_format"] == JSON_MODE
    assert answer["data"][0]["output"] == '{"fine": true}'


def test_row_71_the_seed_is_forwarded(api: httpx.Client, openai: FakeOpenAI) -> None:
    ok(chat(api, TURBOS[0], config={"seed": 42}))
    assert openai.last.body["seed"] == 42


@pytest.mark.parametrize("model", TURBOS)
def test_row_102_the_turbos_do_json_mode_parallel_tools_and_seed(
    api: httpx.Client, openai: FakeOpenAI, models_by_name: dict[tuple[str, str], Json], model: str
) -> None:
    assert not {"tools", "JSON mode", "seed"} & set(models_by_name["openai", model]["lacks"])
    calls = [
        {
            "id": f"call_{city}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'},
        }
        for city in ("Oslo", "Bergen")
    ]
    openai.reply(content=None, tool_calls=calls)
    config = {"tools": TOOLS, "response_format": JSON_MODE, "seed": 7}
    answer = ok(chat(api, model, config=config))
    assert len(answer["data"][0]["tool_calls"]) == 2
    sent = openai.last.body
    assert (sent["model"], sent["seed"], sent["response_format"]) == (model, 7, JSON_MODE)
    assert sent["tools"][0]["function"]["name"] == "weather"


def test_a_chat_with_a_completion_model_is_refused(api: httpx.Client, openai: FakeOpenAI) -> None:
    refused(chat(api, "gpt-3.5-turbo-instruct"), "'gpt-3.5-turbo-instruct' cannot chat", "endpoint 'complete'")
    assert openai.requests == []


def test_max_tokens_minus_one_is_the_rest_of_the_context_in_a_completion(api: httpx.Client, openai: FakeOpenAI) -> None:
    config = {"model": "gpt-3.5-turbo-instruct", "prompt_template": "one two three"}
    ok(api.post("/completion", json={"project": f"rows-models-{reference()}", "model_config": config, "inputs": {}}))
    assert openai.last.body["max_tokens"] == 4_096 - 3


def test_max_tokens_minus_one_is_left_out_of_a_chat(api: httpx.Client, openai: FakeOpenAI) -> None:
    ok(chat(api, TURBOS[0]))
    assert "max_tokens" not in openai.last.body


def test_a_model_missing_from_the_catalogue_is_called(api: httpx.Client, openai: FakeOpenAI) -> None:
    fields = {"tools": TOOLS, "response_format": JSON_MODE, "seed": 1}
    ok(chat(api, "my-own-model", messages=QUESTION, config=fields))
    assert openai.last.body["model"] == "my-own-model"


class TestCosts:
    def test_a_successful_call_has_costs(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        openai.reply(prompt_tokens=1000, generation_tokens=500)
        answer = ok(chat(api, "gpt-4-1106-preview"))
        log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
        assert (log["prompt_cost"], log["output_cost"]) == (0.01, 0.015)

    def test_a_stream_that_broke_off_has_costs(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        """The fake server says a word an event, the first of them empty: "tiktoken is" is what came."""
        openai.reply(content="tiktoken is great!", break_after_chunks=3)
        log = self._newest(api, "gpt-4-1106-preview", "tiktoken is great!")
        assert log["error"]
        assert (log["output"], log["prompt_tokens"], log["output_tokens"]) == ("tiktoken is", 3 + 3 + 1 + 6, 4)
        assert log["prompt_cost"] == 13 * 10 / 1e6
        assert log["output_cost"] == 4 * 30 / 1e6

    def test_a_stream_whose_client_disconnected_has_costs(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        openai.reply(content="tiktoken " * 50, chunk_delay_seconds=0.2)
        log = self._newest(api, "gpt-4-1106-preview", "tiktoken is great!", leave_after=2)
        assert log["error"]
        assert log["prompt_tokens"] == 3 + 3 + 1 + 6
        assert 0 < log["output_tokens"] < 200
        assert log["output_cost"] == pytest.approx(log["output_tokens"] * 30 / 1e6)

    def test_a_call_that_the_provider_refused_has_no_costs(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        openai.reply(status=429, headers={"Retry-After": "60"})
        project, project_id = self._project(api)
        assert chat(api, "gpt-4-1106-preview", project=project).status_code == 429
        log = self._wait(api, project_id)
        assert log["error"]
        assert (log["prompt_cost"], log["output_cost"], log["tokens"]) == (None, None, None)

    def test_a_model_without_a_known_price_has_no_costs(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        assert openai.requests == []
        answer = ok(chat(api, "my-own-model"))
        log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
        assert log["tokens"] == 17
        assert (log["prompt_cost"], log["output_cost"]) == (None, None)

    def _newest(self, api: httpx.Client, model: str, content: str, leave_after: int = 99) -> Json:
        project, project_id = self._project(api)
        body = {
            "project": project,
            "model_config": {"model": model},
            "messages": [{"role": "user", "content": content}],
            "stream": True,
        }
        events = 0
        try:
            with api.stream("POST", "/chat", json=body) as response:
                for line in response.iter_lines():
                    events += line.startswith("data: ")
                    if events >= leave_after:
                        break
        except httpx.RemoteProtocolError:
            pass
        return self._wait(api, project_id)

    @staticmethod
    def _project(api: httpx.Client) -> tuple[str, str]:
        """A new project's name and id."""
        name = f"rows-models-{reference()}"
        made = ok(api.post("/model-configs", json={"project": name, "model": "m", "endpoint": "chat"}))
        return name, made["project_id"]

    @staticmethod
    def _wait(api: httpx.Client, project_id: str) -> Json:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            records = ok(api.get("/logs", params={"project_id": project_id}))["records"]
            if records:
                newest: Json = records[0]
                return newest
            time.sleep(0.1)
        pytest.fail("nothing was logged")
