"""Configs as `.prompt` files through HTTP and the old client (behaviour.md §9, §1.3)."""

from typing import Any

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.sdk_scripts import SdkScripts
from tests.stack import Stack

CHAT: Json = {
    "model": "gpt-4-1106-preview",
    "temperature": 0.3,
    "chat_template": [
        {"role": "system", "content": "Answer in the voice of {{ persona }}."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Where is this?"},
                {"type": "image_url", "image_url": {"url": "https://example.test/a.png", "detail": "low"}},
            ],
        },
    ],
    "tools": [{"name": "weather", "description": "City weather", "parameters": {"type": "object", "properties": {}}}],
}
FILE = """---
model: gpt-4-1106-preview
temperature: 0.3
max_tokens: -1
provider: openai
endpoint: chat
tools: [{"name": "weather", "description": "City weather", "parameters": {"type": "object", "properties": {}}}]
---
<system>
  Answer in the voice of {{ persona }}.
</system>

<user>
  <text>
    Where is this?
  </text>
  <image url="https://example.test/a.png" detail="low" />
</user>
"""
AWKWARD: Json = {
    "model": "gpt-4",
    "name": "awkward: yes",
    "stop": ["\n", "no"],
    "seed": 7,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"default": None}}},
    "other": {"logit_bias": {"1": -100}, "x": None, "big": 10**30},
    "chat_template": [
        {"role": "system", "content": "  Answer in <text> tags.\r\n"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "</tool> &lt;/tool>", "name": 'a"b'},
        {"role": "assistant", "tool_call": {"name": "f"}},
        {"role": "user", "content": []},
    ],
    "tools": [
        {"name": "f", "strict": True, "source_code": "def f(): ...\n", "other": {"a": None}, "preset_name": "p"},
        {"name": "g", "source": "inline"},
    ],
}
COMPLETION: Json = {"model": "gpt-3.5-turbo-instruct", "prompt_template": "Question: {{question}}\nAnswer:\n"}
TAKEN = {
    "name", "description", "provider", "provider_name", "model", "max_tokens", "temperature", "top_p", "stop",
    "presence_penalty", "frequency_penalty", "other", "seed", "response_format", "endpoint", "prompt_template",
    "chat_template", "tools",
}  # fmt: skip


def register(api: httpx.Client, project: str, config: Json) -> str:
    """The id of the config in the project."""
    config_id: str = ok(api.post("/model-configs", json={**config, "project": project}))["config"]["id"]
    return config_id


def as_request(response: Json) -> Json:
    """What was answered, as it can be sent again."""
    return {name: value for name, value in response.items() if name in TAKEN and value is not None}


OLLAMA: Json = {"provider": "ollama", "model": "llama3", "endpoint": "chat"}


@pytest.mark.parametrize("config", [CHAT | {"endpoint": "chat"}, AWKWARD | {"endpoint": "chat"}, COMPLETION, OLLAMA])
def test_a_config_survives_export_deserialize_serialize_and_registering_again(api: httpx.Client, config: Json) -> None:
    project = f"prompt-files-{reference()}"
    config_id = register(api, project, config)
    file = ok(api.post(f"/model-configs/{config_id}/export"))
    read = ok(api.post("/model-configs/deserialize", json={"config": file}))
    written = ok(api.post("/model-configs/serialize", json=as_request(read) | {"provider_api_keys": {"openai": "sk"}}))
    again = ok(api.post("/model-configs/deserialize", json={"config": written}))
    assert again["id"] == read["id"] != config_id
    assert register(api, project, as_request(again)) == config_id
    assert register(api, project, as_request(ok(api.get(f"/model-configs/{config_id}")))) == config_id
    assert api.get(f"/model-configs/{read['id']}").status_code == 404, "nothing is stored"


def test_a_linked_tool_is_still_linked_after_export_and_deserialize(api: httpx.Client, stack: Stack) -> None:
    settings = {"kind": "json_schema", "description": "old", "parameters": {"type": "object"}}
    name = f"linked_{reference()}"
    tool = ok(api.post(f"{stack.base_url}/api/tools", json={"name": name, "settings": settings}), 201)
    project = f"prompt-files-{reference()}"
    config = {"model": "gpt-4", "endpoint": "chat", "tools": [{"id": tool["id"], "source": "organization"}]}
    config_id = register(api, project, config)
    read = ok(api.get(f"/model-configs/{config_id}"))
    assert (read["tools"][0]["name"], read["tools"][0]["description"]) == (name, "old")
    assert register(api, project, as_request(read)) == config_id
    file = ok(api.post(f"/model-configs/{config_id}/export"))
    again = ok(api.post("/model-configs/deserialize", json={"config": file}))
    assert register(api, project, as_request(again)) == config_id


def test_provider_and_provider_name_that_differ_are_refused(api: httpx.Client) -> None:
    both = {"model": "m", "provider": "openai", "provider_name": "ollama"}
    refused = api.post("/model-configs/serialize", json=both)
    assert refused.status_code == 422
    assert "provider_name" in refused.text


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/prompt, application/json", "application/json"),
        ("text/prompt", "text/prompt; charset=utf-8"),
        ("text/prompt; charset=utf-8", "text/prompt; charset=utf-8"),
    ],
)
def test_export_answers_in_the_content_type_of_the_accept_header(
    api: httpx.Client, accept: str, content_type: str
) -> None:
    config_id = register(api, f"prompt-files-{reference()}", CHAT | {"endpoint": "chat"})
    reply = api.post(f"/model-configs/{config_id}/export", headers={"Accept": accept})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == content_type
    assert (reply.json() if "json" in content_type else reply.text) == FILE


def test_a_file_is_read_as_a_config(api: httpx.Client) -> None:
    read = ok(api.post("/model-configs/deserialize", json={"config": FILE, "provider_api_keys": {"openai": "sk"}}))
    assert (read["type"], read["endpoint"], read["temperature"]) == ("model", "chat", 0.3)
    tool = CHAT["tools"][0]
    assert read["tools"][0] | tool == read["tools"][0]
    assert read["tools"][0]["source"] == "inline"
    assert read["tool_configs"][0] | tool == read["tool_configs"][0]
    assert read["tool_configs"][0]["id"] == read["tools"][0]["id"]
    assert (read["tool_configs"][0]["type"], read["tool_configs"][0]["status"]) == ("tool", "committed")


@pytest.mark.parametrize(
    ("config", "endpoint"),
    [
        ({"model": "m"}, "chat"),
        ({"model": "m", "prompt_template": "x"}, "complete"),
        ({"model": "m", "tools": []}, "chat"),
        ({"model": "m", "prompt_template": "x", "tools": []}, "complete"),
        ({"model": "m", "prompt_template": "x", "endpoint": "edit"}, "edit"),
        ({"model": "m", "prompt_template": "x", "chat_template": []}, "chat"),
    ],
)
def test_a_config_without_an_endpoint_is_serialized_with_the_fitting_one(
    api: httpx.Client, config: Json, endpoint: str
) -> None:
    file = ok(api.post("/model-configs/serialize", json=config))
    assert f"\nendpoint: {endpoint}\n" in file


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("deserialize", {"config": "---\nmodel: m\nendpoint: chat\n---\n<user>\n"}, 422, "Line 5"),
        ("deserialize", {"config": "nothing"}, 422, "Line 1"),
        ("deserialize", {"config": "---\nmodel: " + "[" * 100_000 + "\n---\n"}, 422, "Line 2"),
        ("deserialize", {"config": None}, 422, "Field required"),
        ("deserialize", {"config": 1}, 422, "valid string"),
        ("serialize", {"prompt_template": "x"}, 422, "Field required"),
        ("serialize", {"model": ""}, 422, "at least 1 character"),
        ("serialize", {"model": "m", "endpoint": "talk"}, 422, "endpoint"),
        ("serialize", {"model": "m", "project": "p"}, 422, "project"),
        ("serialize", [], 422, "detail"),
        ("config_000000000000000000000/export", None, 404, "There is no config"),
    ],
)
def test_invalid_files_and_configs_are_refused_with_the_line_or_field(
    api: httpx.Client, path: str, body: Any, status: int, says: str
) -> None:
    reply = api.post(f"/model-configs/{path}", json=body)
    assert reply.status_code == status, reply.text
    assert says in reply.text


def test_a_tools_config_is_not_exported(api: httpx.Client) -> None:
    config = {"type": "tool", "name": "search"}
    log = ok(api.post("/logs", json={"project": f"prompt-files-{reference()}", "config": config, "output": "x"}))
    config_id = ok(api.get(f"/logs/{log['id']}"))["config"]["id"]
    reply = api.post(f"/model-configs/{config_id}/export")
    assert reply.status_code == 404, reply.text
    assert "'tool'" in reply.text


def test_sdk_0_7_35_exports_serializes_and_deserializes(sdk735: SdkScripts, api: httpx.Client) -> None:
    project = f"prompt-files-{reference()}"
    done = sdk735.run("projects/prompt_files.py", project=project, config=CHAT)
    assert done["id"] == register(api, project, CHAT | {"endpoint": "chat"})
    assert done["export"] == done["serialize"] == FILE
    expected = {
        "type": "model",
        "model": "gpt-4-1106-preview",
        "roles": ["system", "user"],
        "tool": "weather",
        "tool_config": ["weather", "committed"],
    }
    assert done["get"] == expected | {"id": done["id"]}
    assert done["deserialize"] == expected | {"id": done["deserialize"]["id"]}
    assert done["async"] == {name: done[name] for name in ("export", "serialize", "deserialize")}


def test_sdk_0_7_0_exports_and_deserializes(sdk700: SdkScripts, api: httpx.Client) -> None:
    project = f"prompt-files-{reference()}"
    config_id = register(api, project, CHAT | {"endpoint": "chat"})
    done = sdk700.run("projects/prompt_files_sdk700.py", id=config_id)
    assert done["export"] == FILE
    assert done["model"] == "gpt-4-1106-preview"


def test_a_config_nested_as_deep_as_a_body_may_be_survives_its_file(api: httpx.Client) -> None:
    deepest: Any = 1
    for _ in range(62):
        deepest = {"a": [deepest]}
    config = {"model": "m", "other": {"deep": deepest}}
    file = ok(api.post("/model-configs/serialize", json=config))
    assert ok(api.post("/model-configs/deserialize", json={"config": file}))["other"] == config["other"]


@pytest.mark.parametrize(("characters", "statuses"), [(3_000_000, {200}), (8_500_000, {413, 422})])
def test_a_file_within_the_limit_is_read_and_one_over_it_is_refused(
    api: httpx.Client, characters: int, statuses: set[int]
) -> None:
    """As long as a config may be with its images in it; what is over the limit of a body or a file is refused."""
    image = "data:image/png;base64," + "A" * characters
    file = f'---\nmodel: m\nendpoint: chat\n---\n<user>\n  <image url="{image}" />\n</user>\n'
    reply = api.post("/model-configs/deserialize", json={"config": file})
    assert reply.status_code in statuses, reply.text[:300]
    if reply.status_code == 200:
        assert reply.json()["chat_template"][0]["content"][0]["image_url"]["url"] == image


def test_a_file_with_an_unpaired_surrogate_is_refused(api: httpx.Client) -> None:
    body = '{"config": "---\\nmodel: \\ud800\\n---\\n"}'
    reply = api.post("/model-configs/deserialize", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422, reply.text
