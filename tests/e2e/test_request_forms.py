"""Forms of requests that old clients and applications send, each accepted or refused with the remedy."""

import json
from typing import Any

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.fake_servers.server import FakeServer
from tests.sdk_scripts import SdkScripts

CODE = "def weather(city):\n    return 'wet'\n"
MODEL: Json = {"type": "model", "model": "gpt-4"}
TOOL: Json = {"type": "tool", "name": "weather"}
AGENT: Json = {
    "type": "agent",
    "agent_class": "Planner",
    "model_config": MODEL | {"temperature": 0.5, "tools": [{"name": "f", "source": CODE}]},
    "tools": [TOOL | {"source": CODE}],
    "other": {"steps": [1, None]},
}
GENERIC: Json = {"type": "generic", "name": "retriever", "other": {"top_k": 3}}
ASKED: Json = {"role": "assistant", "content": "", "tool_call": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
NAMED: Json = {"id": "call_7", "type": "function", "function": ASKED["tool_call"]}
ANSWER: Json = {"role": "tool", "name": "weather", "content": "wet"}


def log(api: httpx.Client, config: Json, **fields: Any) -> Json:
    """Post a log with the config into a project of its own; return it as it is read."""
    made = ok(api.post("/logs", json={"project": f"forms-{reference()}", "config": config, "output": "x"} | fields))
    stored: Json = ok(api.get(f"/logs/{made['id']}"))
    return stored


def test_the_forms_of_2023_through_its_client(sdk518: SdkScripts, openai: FakeOpenAI) -> None:
    for content in ("Wet.", "Hi.", "Wet again."):
        openai.reply(content=content)
    seen = sdk518.run("generation/forms_of_2023.py", project=f"forms-{reference()}", code=CODE)
    assert (seen["output"], seen["by_id"]) == ("Wet.", "Wet again.")
    chat, _, by_id = (request.body for request in openai.requests)
    for sent in (chat, by_id):
        (call,) = sent["messages"][1]["tool_calls"]
        assert call["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
        assert sent["messages"][2]["tool_call_id"] == call["id"] != ""
        assert "function_call" not in sent["messages"][1]
    assert seen["messages"][2]["tool_call_id"] == seen["messages"][1]["tool_calls"][0]["id"]
    assert seen["chat_config"]["endpoint"] == "chat"
    assert seen["completion_endpoint"] == "complete"
    assert [tool["source_code"] for tool in seen["chat_config"]["tool_configs"]] == [CODE]
    assert [tool["source_code"] for tool in seen["registered"]["tool_configs"]] == [None]
    assert seen["registered"]["endpoint"] == "complete"
    assert (seen["tool"]["config"]["name"], seen["tool"]["config"]["source_code"]) == ("weather", CODE)
    assert [message["tool_call_id"] for message in seen["tool"]["messages"]] == [None] * 3
    assert seen["tool"]["messages"][1]["tool_call"]["arguments"] == '{"city": "Oslo"}'
    agent = seen["agent"]["config"]
    assert (agent["type"], agent["agent_class"], agent["name"], agent["other"]) == (
        "agent",
        "React",
        "React",
        {"steps": 3},
    )
    assert agent["model_config"]["model"] == "gpt-4"
    assert [tool["source_code"] for tool in agent["tools"]] == [CODE]
    assert (seen["taken_back"], seen["feedback_after"]) == ("good", [])


@pytest.mark.parametrize("config", [AGENT, GENERIC], ids=["agent", "generic"])
def test_a_config_of_an_agent_or_of_anything_else_is_kept_and_read_everywhere(api: httpx.Client, config: Json) -> None:
    first = log(api, config)
    project_id, read = first["project_id"], first["config"]
    assert (read["type"], read["status"], read["other"]) == (config["type"], "committed", config["other"])
    if config is AGENT:
        inner, (tool,) = read["model_config"], read["tools"]
        assert (inner["type"], inner["model"], inner["temperature"], inner["provider"]) == (
            "model",
            "gpt-4",
            0.5,
            "openai",
        )
        assert (tool["name"], tool["source_code"]) == ("weather", inner["tools"][0]["source_code"]) == ("weather", CODE)
    project = {"project": None, "project_id": project_id}
    again, other = log(api, config, **project), log(api, config | {"other": {}}, **project)
    assert again["config_id"] == first["config_id"] != other["config_id"]
    back = log(api, {name: value for name, value in read.items() if name not in ("id", "status")}, **project)
    assert back["config"]["other"] == read["other"]
    if config is AGENT:
        assert back["config_id"] == first["config_id"]
        filters = {"project_id": project_id, "model_filter": "gpt-4"}
        assert ok(api.get("/logs", params=filters))["total"] == 4

    listed = ok(api.get(f"/projects/{project_id}/configs"))
    assert {one["config"]["id"] for one in listed} >= {first["config_id"], other["config_id"]}
    assert next(one for one in listed if one["config"]["id"] == first["config_id"])["config"] == read
    assert ok(api.get(f"/projects/{project_id}/active-config"))["config"] == read
    found = ok(api.get(f"/projects/{project_id}"))
    assert (found["config_type"], found["active_config"]["config"]["id"]) == (config["type"], first["config_id"])
    assert ok(api.post(f"/projects/{project_id}/export"))["total"] == 4
    session_id = ok(api.post("/sessions"), 201)["id"]
    log(api, config, **project, session_id=session_id)
    assert [one["type"] for one in ok(api.get(f"/sessions/{session_id}"))["projects"]] == ["flow"]


@pytest.mark.parametrize("config", [AGENT, GENERIC, TOOL], ids=["agent", "generic", "tool"])
def test_a_config_that_is_no_models_can_be_deployed_and_is_not_called(api: httpx.Client, config: Json) -> None:
    stored = log(api, config)
    project_id, config_id = stored["project_id"], stored["config_id"]
    deployed = ok(api.patch(f"/projects/{project_id}/deploy-config", json={"config_id": config_id}))
    assert [row["model_config_id"] for row in deployed] == [config_id]
    chat, prompt = {"project_id": project_id, "messages": []}, {"project_id": project_id}
    for path, body in (
        ("/chat-deployed", chat),
        ("/chat-model-config", chat | {"model_config_id": config_id}),
        ("/completion-deployed", prompt),
        ("/completion-model-config", prompt | {"model_config_id": config_id}),
    ):
        refused = api.post(path, json=body)
        assert refused.status_code == 422, refused.text
        assert config["type"] in refused.text
    for method, path in (("GET", ""), ("POST", "/export")):
        refused = api.request(method, f"/model-configs/{config_id}{path}")
        assert refused.status_code == 404, refused.text
        assert config["type"] in refused.text
    assert ok(api.get("/logs", params={"project_id": project_id}))["total"] == 1


@pytest.mark.parametrize("kind", ["agent", "generic", "tool", "evaluator", "car", 3, ["model"]])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/chat", "model_config"),
        ("/completion", "model_config"),
        ("/model-configs", None),
        ("/model-configs/serialize", None),
        ("/logs", "config"),
    ],
)
def test_a_config_of_a_type_that_has_no_place_there_is_a_422_that_names_it(
    api: httpx.Client, kind: Any, path: str, field: str | None
) -> None:
    config = {"type": kind, "model": "gpt-4"}
    body = config if field is None else {field: config, "messages": []}
    refused = api.post(path, json=body if path.endswith("serialize") else body | {"project": "p"})
    if path == "/logs" and kind == "generic":
        assert ok(refused)["id"]
        return
    assert refused.status_code == 422, refused.text
    assert kind in ("agent", "tool") or "type" in refused.text
    assert field is None or f'"{field}"' in refused.text


def test_a_models_config_may_say_its_type_wherever_it_is_sent(api: httpx.Client) -> None:
    config = {"type": "model", "model": "mock", "provider": "mock"}
    project = {"project": f"forms-{reference()}"}
    chat = ok(api.post("/chat", json=project | {"model_config": config, "messages": []}))
    registered = ok(api.post("/model-configs", json=project | config | {"endpoint": "chat"}))
    assert registered["config"]["id"] == chat["data"][0]["model_config_id"]
    ok(api.post("/completion", json=project | {"model_config": config | {"prompt_template": "Hi"}}))
    assert ok(api.post("/model-configs/serialize", json=config))


def test_a_config_that_was_read_is_logged_as_the_typescript_client_sends_it(api: httpx.Client) -> None:
    """It reads the active config, calls the provider itself, and logs the config with `tool_configs` as `tools`."""
    project = f"forms-{reference()}"
    fields = {
        "model": "gpt-4",
        "provider": "openai",
        "tools": [{"name": "f", "source_code": CODE}],
        "prompt_template": "x",
    }
    registered = ok(api.post("/model-configs", json={"project": project} | fields))
    read = ok(api.get(f"/projects/{registered['project_id']}/active-config"))["config"]
    config = {name: value for name, value in read.items() if name not in ("id", "tool_configs")}
    sent = {"project_id": registered["project_id"], "config": config | {"tools": read["tool_configs"]}, "duration": 0.5}
    (logged,) = ok(api.post("/logs", json=[sent | {"output": "x", "metadata": {"noProxy": True}}]))
    assert ok(api.get(f"/logs/{logged['id']}"))["config_id"] == read["id"]


@pytest.mark.parametrize("endpoint", ["chat", "complete", "edit"])
def test_an_inline_config_is_of_the_endpoint_that_is_called(api: httpx.Client, endpoint: str) -> None:
    model, project = {"model": "mock", "provider": "mock"}, f"forms-{reference()}"
    chat = {
        "project": project,
        "model_config": model | {"endpoint": endpoint},
        "messages": [{"role": "user", "content": "x"}],
    }
    config_id = ok(api.post("/chat", json=chat))["data"][0]["model_config_id"]
    assert ok(api.get(f"/model-configs/{config_id}"))["endpoint"] == "chat"
    config = model | {"endpoint": endpoint, "prompt_template": "x"}
    completed = ok(api.post("/completion", json={"project": project, "model_config": config}))
    assert ok(api.get(f"/model-configs/{completed['data'][0]['model_config_id']}"))["endpoint"] == "complete"
    stored = log(api, config)
    assert stored["config"]["endpoint"] == endpoint


def test_a_registered_config_is_called_by_its_template_whatever_its_endpoint(api: httpx.Client) -> None:
    model, project = {"model": "mock", "provider": "mock"}, f"forms-{reference()}"
    template = [{"role": "system", "content": "Be dry."}]
    fields = {"project": project} | model
    chat = ok(api.post("/model-configs", json=fields | {"chat_template": template}))["config"]
    prompt = ok(api.post("/model-configs", json=fields | {"prompt_template": "x", "endpoint": "chat"}))["config"]
    assert (chat["endpoint"], prompt["endpoint"]) == ("complete", "chat")
    by_id = {"project": project, "model_config_id": chat["id"]}
    answered = ok(api.post("/chat-model-config", json=by_id | {"messages": []}))
    assert [message["content"] for message in answered["data"][0]["messages"]] == ["Be dry."]
    assert (
        ok(api.post("/chat-deployed", json={"project": project, "messages": []}))["data"][0]["model_config_id"]
        == chat["id"]
    )
    ok(api.post("/completion-model-config", json=by_id | {"model_config_id": prompt["id"]}))
    fixed = ok(api.post("/model-configs", json=fields | {"prompt_template": "y"}))["config"]
    refused = api.post("/chat-model-config", json=by_id | {"model_config_id": fixed["id"], "messages": []})
    assert (refused.status_code, "prompt_template" in refused.text) == (422, True)
    inline = ok(
        api.post(
            "/chat", json={"project": project, "model_config": model | {"chat_template": template}, "messages": []}
        )
    )
    refused = api.post(
        "/completion-model-config", json=by_id | {"model_config_id": inline["data"][0]["model_config_id"]}
    )
    assert (refused.status_code, "without a prompt_template" in refused.text) == (422, True)


def test_a_tools_source_is_its_code_and_that_of_a_link_stays(api: httpx.Client) -> None:
    by_source, by_code = log(api, TOOL | {"source": CODE}), log(api, TOOL | {"source_code": CODE})
    for stored in (by_source, by_code):
        assert (stored["config"]["source"], stored["config"]["source_code"]) == (None, CODE)
    assert log(api, TOOL | {"source": ""})["config"]["source_code"] is None
    assert log(api, TOOL | {"source": "inline", "source_code": CODE})["config"]["source"] == "inline"
    refused = api.post("/logs", json={"project": "p", "config": TOOL | {"source": "other", "source_code": CODE}})
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "config", "source"])

    fields = {"project": f"forms-{reference()}", "model": "gpt-4", "endpoint": "chat"}
    link = {"id": "oc_" + "a" * 21, "source": "organization"}
    registered = ok(api.post("/model-configs", json=fields | {"tools": [{"name": "f", "source": CODE}, link]}))[
        "config"
    ]
    tool, linked = registered["tools"]
    assert (tool["source"], tool["source_code"]) == ("inline", CODE)
    assert (linked["id"], linked["source"]) == (link["id"], "organization")
    same = ok(api.post("/model-configs", json=fields | {"tools": [{"name": "f", "source_code": CODE}, link]}))["config"]
    read = ok(api.post("/model-configs", json=fields | {"tools": registered["tools"]}))["config"]
    assert registered["id"] == same["id"] == read["id"]


@pytest.mark.parametrize("messages", [[ANSWER], [ASKED, ANSWER], [{"role": "user", "content": "x"}, ANSWER, ANSWER]])
def test_a_tool_message_without_an_id_is_logged_as_it_is(api: httpx.Client, messages: list[Json]) -> None:
    stored = log(api, MODEL | {"endpoint": "chat", "chat_template": messages}, messages=messages, output_message=ANSWER)
    assert [message["content"] for message in stored["messages"]] == [message["content"] for message in messages]
    assert {message["tool_call_id"] for message in stored["messages"]} == {None}
    assert stored["config"]["chat_template"][-1]["tool_call_id"] is None
    exported = ok(api.post(f"/model-configs/{stored['config_id']}/export"))
    assert (
        ok(api.post("/model-configs/deserialize", json={"config": exported}))["chat_template"]
        == stored["config"]["chat_template"]
    )


@pytest.mark.parametrize(
    ("messages", "index"),
    [
        ([ANSWER], 0),
        ([{"role": "user", "content": "x"}, ANSWER], 1),
        ([{"role": "assistant", "content": "", "tool_calls": [NAMED]}, ANSWER], 1),
        ([ASKED | {"tool_calls": [NAMED]}, ANSWER], 1),
        ([ASKED, ANSWER, {"role": "assistant", "content": "wet"}, ANSWER], 3),
        ([ASKED, ANSWER, ANSWER], 2),
        ([ASKED, ANSWER | {"tool_call_id": ""}, ANSWER], 2),
    ],
)
def test_in_a_generation_it_is_refused_where_the_call_may_have_an_id(
    api: httpx.Client, openai: FakeOpenAI, messages: list[Json], index: int
) -> None:
    project = f"forms-{reference()}"
    refused = api.post("/chat", json={"project": project, "model_config": {"model": "gpt-4"}, "messages": messages})
    assert refused.status_code == 422, refused.text
    assert f"messages[{index}].tool_call_id" in refused.json()["detail"]["message"]
    assert openai.requests == []
    assert ok(api.get("/projects", params={"filter": project}))["total"] == 0, "nothing is stored"


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-3-5-sonnet-20241022"),
        ("bedrock", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
        ("cohere", "command-r-plus"),
        ("google", "gemini-1.5-pro"),
    ],
)
def test_every_provider_gets_a_deprecated_call_and_its_answer_under_one_id(
    api: httpx.Client, fake_providers: dict[str, FakeServer], provider: str, model: str
) -> None:
    fake_providers[provider].reply(content="Wet.")
    config = {"model": model, "provider": provider, "tools": [{"name": "weather", "parameters": {"type": "object"}}]}
    messages = [{"role": "user", "content": "Rain in Oslo?"}, ASKED, ANSWER]
    sent = {"project": f"forms-{reference()}", "model_config": config, "messages": messages}
    (data,) = ok(api.post("/chat", json=sent))["data"]
    call_id = data["messages"][2]["tool_call_id"]
    assert data["messages"][1]["tool_calls"] == [NAMED | {"id": call_id}]
    (request,) = fake_providers[provider].requests
    assert json.dumps(request.body).count(f'"{call_id}"') == 2


@pytest.mark.parametrize("value", ["", "  ", [], None, "good", "bad"])
def test_blank_feedback_that_is_unset_takes_back_what_there_is(api: httpx.Client, value: Any) -> None:
    log_id = log(api, MODEL)["id"]
    for name, given in (("rating", "good"), ("comment", "so so"), ("stars", 3)):
        ok(api.post("/feedback", json={"type": name, "data_id": log_id, "value": given}))
        taken = ok(api.post("/feedback", json={"type": name, "data_id": log_id, "value": value, "unset": True}))
        assert taken["value"] == given
    assert ok(api.get(f"/logs/{log_id}"))["feedback"] == []


@pytest.mark.parametrize("value", ["", [], None])
def test_blank_feedback_of_a_multi_select_does_not_say_what_to_take_back(api: httpx.Client, value: Any) -> None:
    log_id = log(api, MODEL)["id"]
    ok(api.post("/feedback", json={"type": "action", "data_id": log_id, "value": "copied"}))
    refused = api.post("/feedback", json={"type": "action", "data_id": log_id, "value": value, "unset": True})
    assert (refused.status_code, "say which one" in refused.text) == (422, True)
    blank = api.post("/feedback", json={"type": "rating", "data_id": log_id, "value": ""})
    assert blank.status_code == 422
    assert [one["value"] for one in ok(api.get(f"/logs/{log_id}"))["feedback"]] == ["copied"]


@pytest.mark.parametrize("content", [None, b"null", b"[]"])
def test_feedback_types_without_a_body_are_answered_with_those_there_are(
    api: httpx.Client, content: bytes | None
) -> None:
    project = ok(api.post("/projects", json={"name": f"forms-{reference()}"}), 201)
    headers = {"Content-Type": "application/json"} if content else {}
    path = f"/projects/{project['id']}/feedback-types"
    assert ok(api.patch(path, content=content, headers=headers)) == project["feedback_types"]
    assert api.patch("/projects/pr_none/feedback-types").status_code == 404


def test_positive_labels_of_a_project_are_those_an_old_client_lists(api: httpx.Client) -> None:
    project = ok(api.post("/projects", json={"name": f"forms-{reference()}"}), 201)
    path = f"/projects/{project['id']}"
    listed = [{"type": "rating", "value": "great"}, {"type": "action", "value": "copied"}]
    updated = ok(api.patch(path, json={"name": f"{project['name']}-2", "positive_labels": listed}))
    assert updated["name"] == f"{project['name']}-2"
    sentiments = {
        (kind["type"], label["value"]): label["sentiment"]
        for kind in updated["feedback_types"]
        for label in kind["values"] or ()
    }
    assert sentiments == {
        ("rating", "good"): "unset",
        ("rating", "bad"): "negative",
        ("rating", "great"): "positive",
        ("action", "copied"): "positive",
    }
    refused = api.patch(path, json={"positive_labels": [{"type": "comment", "value": "nice"}], "name": "not this"})
    assert (refused.status_code, ok(api.get(path))["name"]) == (422, updated["name"])
    refused = api.patch(path, json={"active_experiment_id": "exp_1"})
    assert (refused.status_code, "active_experiment_id" in refused.text) == (422, True)
    refused = api.post("/model-configs", json={"project": "p", "model": "m", "experiment": "exp_1"})
    assert (refused.status_code, "experiment: there are no experiments" in refused.text) == (422, True)


@pytest.mark.parametrize("content", [b"{}", b'{"provider_api_keys": {"openai": "sk-mine"}}'])
def test_an_update_that_changes_nothing_is_answered(api: httpx.Client, content: bytes) -> None:
    stored = log(api, MODEL, reference_id=reference())
    headers = {"Content-Type": "application/json"}
    updated = ok(api.patch(f"/projects/{stored['project_id']}", content=content, headers=headers))
    assert updated["name"] == stored["project"]
    for path, parameters in ((f"/logs/{stored['id']}", {}), ("/logs", {"reference_id": stored["reference_id"]})):
        assert ok(api.patch(path, params=parameters, content=content, headers=headers))["output"] == "x"


@pytest.mark.parametrize("fields", [{"duration": -1}, {"duration": "long"}, {"output": 3}, {"error": ["x"]}])
def test_a_log_is_updated_by_the_rules_it_is_posted_by(api: httpx.Client, fields: Json) -> None:
    stored = log(api, MODEL, reference_id=reference(), duration=2)
    (field,) = fields
    posted = api.post("/logs", json={"project": "p", "config": MODEL} | fields)
    by_id = api.patch(f"/logs/{stored['id']}", json=fields)
    by_reference = api.patch("/logs", params={"reference_id": stored["reference_id"]}, json=fields)
    for refused in (posted, by_id, by_reference):
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", field])
        assert refused.json() == posted.json()
    assert (ok(api.get(f"/logs/{stored['id']}"))["duration"], stored["output"]) == (2, "x")


JSON_ROUTES = (
    ("POST", "/logs"),
    ("PATCH", "/logs?reference_id=x"),
    ("PATCH", "/logs/data_x"),
    ("POST", "/feedback"),
    ("POST", "/chat"),
    ("POST", "/completion-deployed"),
    ("POST", "/model-configs"),
    ("POST", "/model-configs/deserialize"),
    ("POST", "/projects"),
    ("PATCH", "/projects/pr_x"),
    ("PATCH", "/projects/pr_x/feedback-types"),
    ("PATCH", "/projects/pr_x/deploy-config"),
)


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
def test_a_body_that_is_no_json_is_told_why_and_where_on_every_route(api: httpx.Client, method: str, path: str) -> None:
    for raw, loc, says in (
        (b'{"a": {"b": [1, {"c": NaN}]}}', ["a", "b", 1, "c"], "a.b[1].c: NaN"),
        (b'[{"a": "\\ud800"}]', [0, "a"], "surrogate"),
        (b'{"a": ' + b"[" * 129 + b"]" * 129 + b"}", ["a", *[0] * 7], "128 levels"),
        (b'{"a": 1\n "b": 2}', ["a"], "line 2 column 2"),
        (b'{"a": 2e308}', ["a"], "too large"),
    ):
        refused = api.request(method, path, content=raw, headers={"Content-Type": "application/json"})
        assert refused.status_code == 422, refused.text
        (detail,) = refused.json()["detail"]
        assert (detail["loc"], detail["type"]) == (["body", *loc], "json_invalid")
        assert says in detail["msg"]
