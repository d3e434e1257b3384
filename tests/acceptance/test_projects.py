"""Seed rows 62, 72, 123-125: vision model, versions, addressing, deployment, logs (behaviour.md §23 I, J, Q)."""

from typing import Any

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts

MESSAGES = [{"role": "user", "content": "Hi"}]


def registered(api: httpx.Client, **fields: Any) -> Json:
    """A chat config."""
    body: Json = {"model": "gpt-4-1106-preview", "endpoint": "chat"}
    answer: Json = ok(api.post("/model-configs", json=body | fields))
    return answer


def test_row_62_a_vision_model_is_called_through_a_deployed_config(api: httpx.Client, openai: FakeOpenAI) -> None:
    project = f"row-62-{reference()}"
    made = registered(api, project=project, model="gpt-4-vision-preview")
    image = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png", "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    answer = ok(api.post("/chat-deployed", json={"project": project, "messages": messages}))
    assert answer["data"][0]["model_config_id"] == made["config"]["id"]
    assert openai.last.body["model"] == "gpt-4-vision-preview"
    assert openai.last.body["messages"] == messages


def test_row_72_a_seed_or_a_response_format_makes_a_version(api: httpx.Client) -> None:
    project = f"row-72-{reference()}"
    variants: list[Json] = [
        {},
        {"seed": 1},
        {"seed": 2},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
        {"seed": 1, "response_format": {"type": "json_object"}},
    ]
    first = [registered(api, project=project, **fields)["config"]["id"] for fields in variants]
    again = [registered(api, project=project, **fields)["config"]["id"] for fields in variants]
    assert len(set(first)) == len(variants)
    assert again == first
    project_id = registered(api, project=project)["project_id"]
    configs = ok(api.get(f"/projects/{project_id}/configs"))
    assert [one["config"]["id"] for one in configs] == first[::-1]
    assert configs[-2]["config"]["seed"] == 1
    assert configs[2]["config"]["response_format"]["type"] == "json_object"


@pytest.mark.parametrize("given", ["name", "id"])
def test_row_123_every_call_takes_a_project_name_or_id(given: str, api: httpx.Client, openai: FakeOpenAI) -> None:
    name = f"row-123-{reference()}"
    chat = registered(api, project=name)
    completion = registered(api, project=name, endpoint="complete", model="gpt-3.5-turbo-instruct", prompt_template="x")
    project_id = chat["project_id"]
    place = {"project": name} if given == "name" else {"project_id": project_id}
    chats: dict[str, Json] = {
        "/chat": {"model_config": {"model": "gpt-4"}},
        "/chat-deployed": {},
        "/chat-model-config": {"model_config_id": chat["config"]["id"]},
    }
    answers = [ok(api.post(path, json=place | extra | {"messages": MESSAGES})) for path, extra in chats.items()]
    deploy = f"/projects/{project_id}/deploy-config"
    ok(api.patch(deploy, json={"config_id": completion["config"]["id"]}))
    completions: dict[str, Json] = {
        "/completion": {"model_config": {"model": "gpt-3.5-turbo-instruct", "prompt_template": "x"}},
        "/completion-deployed": {},
        "/completion-model-config": {"model_config_id": completion["config"]["id"]},
    }
    answers += [ok(api.post(path, json=place | extra | {"inputs": {}})) for path, extra in completions.items()]
    answers.append(ok(api.post("/logs", json=place | {"config_id": chat["config"]["id"], "output": "x"})))
    answers.append(registered(api, **place))
    assert [answer["project_id"] for answer in answers] == [project_id] * 8
    assert len(openai.requests) == 6
    exported = ok(api.post(f"/projects/{project_id}/export", params={"size": 20}))
    assert exported["total"] == 7


def test_row_123_every_sdk_call_takes_a_project_name_or_id(
    api: httpx.Client, sdk735: SdkScripts, openai: FakeOpenAI
) -> None:
    name = f"row-123-{reference()}"
    project_id = registered(api, project=name)["project_id"]
    assert sdk735.run("projects/project_by_name_and_id.py", name=name, id=project_id) == [project_id] * 14
    assert len(openai.requests) == 10


def test_row_124_deploying_changes_the_next_call(api: httpx.Client, openai: FakeOpenAI) -> None:
    project = f"row-124-{reference()}"
    versions = [registered(api, project=project, temperature=temperature) for temperature in (0, 0.5)]
    project_id = versions[0]["project_id"]

    def call() -> Json:
        answer: Json = ok(api.post("/chat-deployed", json={"project": project, "messages": MESSAGES}))
        return answer

    assert call()["data"][0]["model_config_id"] == versions[0]["config"]["id"]
    for turn in range(1, 7):
        wanted = versions[turn % 2]["config"]
        ok(api.patch(f"/projects/{project_id}/deploy-config", json={"config_id": wanted["id"]}))
        assert call()["data"][0]["model_config_id"] == wanted["id"]
        assert openai.last.body["temperature"] == wanted["temperature"]
    ok(api.delete(f"/projects/{project_id}/active-config"))
    nothing = api.post("/chat-deployed", json={"project": project, "messages": MESSAGES})
    assert nothing.status_code == 404
    ok(api.patch(f"/projects/{project_id}", json={"active_config_id": versions[1]["config"]["id"]}))
    assert call()["data"][0]["model_config_id"] == versions[1]["config"]["id"]


def test_row_125_the_logs_of_a_project_have_all_its_generations(api: httpx.Client, openai: FakeOpenAI) -> None:
    project = f"row-125-{reference()}"
    config = {"model": "gpt-4-1106-preview", "chat_template": [{"role": "system", "content": "Be {{tone}}."}]}
    made = registered(api, project=project, **config)
    inputs = {"tone": "brief"}
    common: Json = {"project": project, "inputs": inputs, "messages": MESSAGES}
    sent = {}
    for path, extra in (
        ("/chat", {"model_config": config}),
        ("/chat-deployed", {}),
        ("/chat-model-config", {"model_config_id": made["config"]["id"]}),
    ):
        openai.reply(content=f"from {path}")
        sent[ok(api.post(path, json=common | extra))["data"][0]["id"]] = f"from {path}"
    log_page = ok(api.get("/logs", params={"project_id": made["project_id"]}))
    exported = ok(api.post(f"/projects/{made['project_id']}/export"))
    assert log_page["total"] == exported["total"] == 3
    assert log_page["records"] == exported["records"]
    assert [log["id"] for log in log_page["records"]] == list(sent)[::-1]
    for log in log_page["records"]:
        assert log["config"]["id"] == made["config"]["id"]
        assert log["inputs"] == inputs
        assert log["output"] == sent[log["id"]]
        assert log["provider_response"]["choices"][0]["message"]["content"] == sent[log["id"]]
        assert log["messages"][0]["content"] == "Be brief."
    (version,) = ok(api.get(f"/projects/{made['project_id']}/configs"))
    assert (version["num_datapoints"], version["last_used"][:19]) == (3, log_page["records"][0]["created_at"][:19])
