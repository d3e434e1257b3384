"""Seed rows 49-52, 54, 55: parallel tool calls; 61, 63-65, 69: images; 70-72, 74: JSON mode and seed (behaviour.md §23
G, I, J)."""

import httpx
import pytest

from tests.e2e.calls import Json, ok, reference
from tests.standins.openai import OpenAIStandIn

CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]
TOOL: Json = {"name": "weather", "description": "Of a city", "parameters": {"type": "object", "properties": {}}}
FAR = {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png", "detail": "low"}}
NEAR = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"}}
SEES = "gpt-4-vision-preview"


def chat(api: httpx.Client, messages: list[Json], **config: object) -> httpx.Response:
    given = {"model": "gpt-4-1106-preview"} | config
    return api.post("/chat", json={"project": f"rows-{reference()}", "model_config": given, "messages": messages})


def says(content: object) -> list[Json]:
    return [{"role": "user", "content": content}]


@pytest.fixture
def answer(api: httpx.Client, openai: OpenAIStandIn) -> Json:
    """Of a model that wants two calls."""
    openai.reply(content=None, tool_calls=CALLS)
    return ok(chat(api, says("How is the weather?"), tools=[TOOL]))


def test_row_49_two_calls_in_one_answer(answer: Json) -> None:
    assert answer["data"][0]["tool_calls"] == CALLS
    assert answer["data"][0]["output_message"]["tool_calls"] == CALLS


def test_row_50_the_deprecated_call_is_the_first(api: httpx.Client, answer: Json) -> None:
    assert answer["data"][0]["tool_call"] == CALLS[0]["function"]
    schemas = api.get("/../openapi.json").json()["components"]["schemas"]
    assert schemas["ChatDataResponse"]["properties"]["tool_call"]["deprecated"] is True


def test_row_51_two_results_keep_their_ids(api: httpx.Client, openai: OpenAIStandIn, answer: Json) -> None:
    results = [
        {"role": "tool", "tool_call_id": "call_2", "content": "wet"},
        {"role": "tool", "tool_call_id": "call_1", "content": "dry"},
    ]
    ok(chat(api, [*says("How?"), answer["data"][0]["output_message"], *results], tools=[TOOL]))
    sent = openai.last.body["messages"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_1", "call_2"]
    assert sent[2:] == results


def test_row_52_a_result_without_its_id_is_refused(api: httpx.Client, openai: OpenAIStandIn) -> None:
    response = chat(api, [*says("How?"), {"role": "tool", "content": "wet"}], tools=[TOOL])
    assert response.status_code == 422
    assert "tool_call_id" in response.text
    assert not openai.requests


def test_row_54_tools_are_sent_as_functions_and_make_the_version(api: httpx.Client, openai: OpenAIStandIn) -> None:
    ok(chat(api, says("How?"), tools=[TOOL]))
    assert openai.last.body["tools"] == [{"type": "function", "function": TOOL}]
    assert openai.last.body["tool_choice"] == "auto"
    project = f"rows-{reference()}"
    config: Json = {"project": project, "model": "gpt-4-1106-preview", "endpoint": "chat", "tools": [TOOL]}
    changed = [TOOL | {"description": "Of a town"}]
    versions = [
        ok(api.post("/model-configs", json=config | {"tools": tools}))["config"]["id"]
        for tools in ([TOOL], [TOOL], changed)
    ]
    assert versions[0] == versions[1] != versions[2]


def test_row_55_the_reason_is_tool_call(answer: Json) -> None:
    assert answer["data"][0]["finish_reason"] == "tool_call"


def test_rows_61_and_64_text_and_images_reach_the_provider_as_they_are(
    api: httpx.Client, openai: OpenAIStandIn
) -> None:
    parts = [{"type": "text", "text": "Which is older?"}, FAR, NEAR]
    ok(chat(api, says(parts), model=SEES))
    assert openai.last.body["messages"] == says(parts)


def test_rows_63_and_65_an_image_of_megabytes_is_sent_and_kept(api: httpx.Client, openai: OpenAIStandIn) -> None:
    url = "data:image/png;base64," + "iVBORw0K" * 400_000
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = ok(chat(api, says(parts), model=SEES))
    assert openai.last.body["messages"][0]["content"][1]["image_url"]["url"] == url
    log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
    assert log["messages"][0]["content"][1]["image_url"]["url"] == url


def test_row_69_no_image_in_the_system_message(api: httpx.Client, openai: OpenAIStandIn) -> None:
    response = chat(api, [{"role": "system", "content": [NEAR]}, *says("What is it?")], model=SEES)
    assert response.status_code == 422
    assert "images in the system message" in response.json()["detail"]["message"]
    assert not openai.requests


def test_rows_70_and_71_json_mode_and_seed_are_sent(api: httpx.Client, openai: OpenAIStandIn) -> None:
    openai.reply(content='{"town": "Oslo"}')
    answer = ok(chat(api, says("As json."), response_format={"type": "json_object"}, seed=7))
    assert openai.last.body["response_format"] == {"type": "json_object"}
    assert openai.last.body["seed"] == 7
    assert answer["data"][0]["output"] == '{"town": "Oslo"}'


def test_row_72_each_makes_a_new_version(api: httpx.Client) -> None:
    config: Json = {"project": f"rows-{reference()}", "model": "gpt-4-1106-preview", "endpoint": "chat"}
    more: list[Json] = [{}, {}, {"seed": 7}, {"response_format": {"type": "json_object"}}]
    first, again, *others = (ok(api.post("/model-configs", json=config | each))["config"]["id"] for each in more)
    assert first == again
    assert len({first, *others}) == 3


@pytest.mark.parametrize("provider", ["openai", "mock"])
def test_row_74_the_missing_word_is_the_providers_own_error(
    api: httpx.Client, openai: OpenAIStandIn, provider: str
) -> None:
    sentence = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    if provider == "openai":
        openai.reply(status=400, error={"message": sentence, "type": "invalid_request_error", "param": "messages"})
    project = f"rows-{reference()}"
    config = {"provider": provider, "model": "gpt-4-1106-preview", "response_format": {"type": "json_object"}}
    response = api.post("/chat", json={"project": project, "model_config": config, "messages": says("Hello")})
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert (detail["message"], detail["origin"]) == (sentence, {"openai": "OpenAI", "mock": "Mock"}[provider])
    (log,) = ok(api.get("/logs", params={"project_id": _project(api, project)}))["records"]
    assert log["error"] == sentence


def _project(api: httpx.Client, name: str) -> str:
    """By registering once more, which makes nothing new."""
    given = {"project": name, "model": "gpt-4-1106-preview", "endpoint": "chat"}
    return str(ok(api.post("/model-configs", json=given))["project_id"])
