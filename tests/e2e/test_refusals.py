"""Bad input gets an error that names the field, stores nothing, and is never a 500; failures are logs too."""

import json
import socket
from typing import Any

import httpx
import pytest

from tests.calls import Json, moderator, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.stack import Stack

TOOL = {"type": "tool", "name": "t"}
CHAT: Json = {"model_config": {"model": "gpt-4"}, "messages": []}
SECRET = "sk-very-secret-and-only-mine"


def total(api: httpx.Client, project_id: str) -> int:
    """How many logs a project has."""
    return int(ok(api.get("/logs", params={"project_id": project_id}))["total"])


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/logs", {"config": TOOL}, "project"),
        ("/logs", {"project": "p"}, "config"),
        ("/logs", {"project": "p", "config": {"type": "car", "name": "x"}}, "config"),
        ("/logs", {"project": "p", "config": {"model": ""}}, "model"),
        ("/logs", {"project": "p", "config": TOOL, "created_at": "yesterday"}, "created_at"),
        ("/logs", {"project": "p", "config": TOOL, "session_id": "nonsense"}, "session_id"),
        ("/logs", {"project": "p", "config": TOOL, "parent_id": "a", "parent_reference_id": "b"}, "parent"),
        ("/logs", {"project": "p", "config": {"model": "m", "colour": "red"}}, "colour"),
        ("/logs", "just a string", "body"),
        ("/logs", {"project": "p", "config": TOOL, "prompt_tokens": 2**63}, "prompt_tokens"),
        ("/logs", {"project": "p", "config": TOOL, "duration": -1}, "duration"),
        ("/logs", {"project": "p", "config": TOOL, "created_at": "0001-01-01T00:00:00+14:00"}, "created_at"),
        ("/logs", {"project": "p", "config": {"model": "m", "temperature": "inf"}}, "temperature"),
        ("/logs", [{"project": "p", "config": TOOL, "reference_id": "twice"}] * 2, "reference_id"),
        ("/chat", CHAT | {"project": "p", "provider_api_keys": {"openai": "a\nb"}}, "provider_api_keys"),
        ("/chat", CHAT | {"project": "p", "num_samples": 0}, "num_samples"),
        ("/chat", CHAT | {"project": "p", "surprise": 1}, "surprise"),
        ("/chat", CHAT | {"project": "p", "messages": [{"role": "tool", "content": "wet"}]}, "tool_call_id"),
        ("/chat", CHAT | {"project": "p", "messages": [{"role": "function", "content": "x"}]}, "role"),
        ("/chat", CHAT, "project"),
        ("/chat-model-config", {"project": "p", "messages": []}, "model_config_id"),
        ("/model-configs", {"model": "gpt-4"}, "project"),
        ("/model-configs", {"project": "p", "model": "gpt-4", "provider": "Acme & Co"}, "provider"),
    ],
)
def test_bad_input_is_a_422_that_names_the_field(api: httpx.Client, path: str, body: Any, named: str) -> None:
    refused = api.post(path, json=body)
    assert refused.status_code == 422, refused.text
    assert named in refused.text


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"",
        b"\xff\xfe",
        b'{"project": NaN}',
        b"[" * 5000,
        b'{"project": "\\ud800"}',
        b'{"project": "p", "config": {"type": "tool", "name": "t"}, "inputs": {"x": 1e999}}',
        b'{"project": "p", "config": {"type": "tool", "name": "t", "parameters": {"x": '
        + b"[" * 150
        + b"]" * 150
        + b"}}}",
    ],
    ids=range(8),
)
def test_an_unreadable_body_is_a_4xx(api: httpx.Client, raw: bytes) -> None:
    refused = api.post("/logs", content=raw, headers={"Content-Type": "application/json"})
    assert refused.status_code in (400, 422), refused.text
    assert refused.json()["detail"]


def test_an_array_of_logs_is_stored_as_a_whole_or_not_at_all(api: httpx.Client) -> None:
    project = reference()
    first = ok(api.post("/logs", json={"project": project, "config": TOOL}))
    refused = api.post("/logs", json=[{"project": project, "config": TOOL}, {"project": project}])
    assert refused.status_code == 422
    unknown = {"project": project, "config_id": "config_doesnotexist"}
    missing = api.post("/logs", json=[{"project": project, "config": TOOL}, unknown])
    assert missing.status_code == 404
    assert total(api, first["project_id"]) == 1
    both = ok(api.post("/logs", json=[{"project": project, "config": TOOL, "output": each} for each in "ab"]))
    assert [ok(api.get(f"/logs/{entry['id']}"))["output"] for entry in both] == ["a", "b"]
    assert ok(api.post("/logs", json=[])) == []


def test_any_json_is_read_back_unchanged(api: httpx.Client) -> None:
    inputs = {
        "big": 2**70,
        "small": -(2**63),
        "float": 1e-300,
        "text": 'naïve 🦜 \u0000 \\ " $where {{x}}',
        "$set": {"a.b": None, "": [], "nested": [[{}]]},
        "deep": [[[[[[[[[[1]]]]]]]]]],
    }
    created = ok(api.post("/logs", json={"project": "any-json", "config": TOOL, "inputs": inputs, "metadata": inputs}))
    log = ok(api.get(f"/logs/{created['id']}"))
    assert log["inputs"] == inputs
    assert log["metadata"] == inputs


def test_explicit_nulls_are_absent_fields(api: httpx.Client) -> None:
    config: Json = {"model": "gpt-4", "temperature": None, "stop": None, "tools": None, "provider": None, "other": None}
    body: Json = {"project": "nulls", "model_config": config, "messages": [], "inputs": None, "save": None}
    answer = ok(api.post("/chat", json=body | {"num_samples": None, "metadata": None, "session_id": None}))
    plain = ok(api.post("/chat", json={"project": "nulls", "model_config": {"model": "gpt-4"}, "messages": []}))
    assert answer["data"][0]["model_config_id"] == plain["data"][0]["model_config_id"]


def test_a_body_over_the_limit_is_a_413(api: httpx.Client) -> None:
    declared = api.post("/logs", json={"project": "big", "config": TOOL, "output": "x" * 5_000_000})
    assert declared.status_code == 413
    assert declared.json()["detail"]["type"] == "payload_too_large_error"

    def chunks() -> Any:
        yield b'{"project": "big", "output": "'
        for _ in range(80):
            yield b"x" * 65_536
        yield b'"}'

    refused = api.post("/logs", content=chunks(), headers={"Content-Type": "application/json"})
    assert refused.status_code == 413
    assert refused.json()["detail"]["type"] == "payload_too_large_error"


@pytest.mark.parametrize("length", ["Content-Length: 40000000", "Transfer-Encoding: chunked"])
def test_a_request_with_a_wrong_key_is_refused_before_its_body_is_read(stack: Stack, length: str) -> None:
    head = "POST /v4/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-KEY: hl_wrong\r\n"
    there = httpx.URL(stack.url)
    with socket.create_connection((there.host, there.port or 80), timeout=10) as connection:
        connection.sendall(f"{head}{length}\r\n\r\n".encode())
        answer = b""
        while b"}}" not in answer and (piece := connection.recv(65_536)):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'"authentication_error"' in answer


def test_a_client_with_a_wrong_key_that_sends_its_whole_body_can_read_the_401(api: httpx.Client) -> None:
    with httpx.Client(base_url=api.base_url, headers={"X-API-KEY": "hl_wrong"}, timeout=30) as stranger:
        for _ in range(2):  # on one connection
            refused = stranger.post("/logs", json={"project": "big", "config": TOOL, "output": "x" * 20_000_000})
            assert refused.status_code == 401
            assert refused.json()["detail"]["code"] == 401


def test_nesting_up_to_the_limit_is_read_back(api: httpx.Client) -> None:
    nested: Any = 1
    for _ in range(120):
        nested = [nested]
    config = TOOL | {"name": "deep", "parameters": {"x": nested}}
    created = ok(api.post("/logs", json={"project": "deep", "config": config, "inputs": {"x": nested}}))
    (log,) = ok(api.get("/logs", params={"project_id": created["project_id"]}))["records"]
    assert log["inputs"] == log["config"]["parameters"] == {"x": nested}


def test_a_page_of_very_long_logs_is_read(api: httpx.Client) -> None:
    ids = [
        ok(api.post("/logs", json={"project": "long", "config": TOOL, "output": f"{number}" * 3_000_000}))["id"]
        for number in range(4)
    ]
    project_id = ok(api.get(f"/logs/{ids[0]}"))["project_id"]
    page = ok(api.get("/logs", params={"project_id": project_id}))
    assert [log["id"] for log in page["records"]] == ids[::-1]
    assert page["total"] == 4


def test_a_call_whose_answer_is_too_large_for_the_bus_has_its_log(api: httpx.Client) -> None:
    config = {"provider": "mock", "model": "m"}
    body = {"project": f"huge-{reference()}", "model_config": config, "inputs": {"a": "b"}}
    small = ok(api.post("/chat", json=body | {"messages": []}))
    api.post("/chat", json=body | {"messages": [{"role": "user", "content": "y" * 2_100_000}]})
    newest, _ = ok(api.get("/logs", params={"project_id": small["project_id"]}))["records"]
    assert "too large" in newest["error"]
    assert newest["tokens"]


@pytest.mark.parametrize("other", [{"max_tokens": "q"}, {"tools": 3, "tool_calls": 2}, {"response_format": 3}])
def test_invalid_fields_of_other_are_refused_by_the_provider(api: httpx.Client, other: Json) -> None:
    config = {"provider": "mock", "model": "m", "other": other}
    messages = [{"role": "user", "content": "one two"}]
    refused = api.post("/chat", json={"project": "odd", "model_config": config, "messages": messages})
    assert refused.status_code == 422
    assert refused.json()["detail"]["origin"] == "Mock"


def test_unknown_paths_and_methods_are_unified_errors(api: httpx.Client) -> None:
    for answer, status in ((api.get("/nothing"), 404), (api.put("/logs", json={}), 405)):
        assert answer.status_code == status
        assert set(answer.json()["detail"]) == {"type", "message", "code", "origin"}


def test_a_failed_call_is_a_unified_error_and_a_log(api: httpx.Client, openai: FakeOpenAI) -> None:
    project = f"fails-{reference()}"
    project_id = moderator(api, project=project)["project_id"]
    openai.reply(status=400, error={"message": "context length exceeded", "type": "invalid_request_error"})
    body = CHAT | {"project": project, "inputs": {"a": "b"}, "messages": [{"role": "user", "content": "Hi"}]}
    refused = api.post("/chat", json=body)
    assert refused.status_code == 422
    detail = refused.json()["detail"]
    assert detail["type"] == "unprocessable_entity_error"
    assert detail["code"] == 422
    assert detail["origin"] == "OpenAI"
    assert "context length exceeded" in detail["message"]
    log = ok(api.get("/logs", params={"project_id": project_id}))["records"][0]
    assert "context length exceeded" in log["error"]
    assert log["inputs"] == {"a": "b"}
    assert log["output"] is None


def test_missing_inputs_are_named_and_the_provider_is_not_called(api: httpx.Client, openai: FakeOpenAI) -> None:
    template = [{"role": "system", "content": "{{ beta }} {{alpha}} {{gamma}}"}]
    config = {"model": "gpt-4", "chat_template": template}
    body = {"project": "missing", "model_config": config, "messages": [], "inputs": {"gamma": "g", "beta": None}}
    refused = api.post("/chat", json=body)
    assert refused.status_code == 422
    assert "['alpha', 'beta']" in refused.json()["detail"]["message"]
    assert openai.requests == []


def test_save_false_stores_no_content(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content="not to be kept")
    body = CHAT | {"project": "unsaved", "inputs": {"a": "b"}, "save": False, "metadata": {"kept": True}}
    answer = ok(api.post("/chat", json=body))
    assert answer["data"][0]["output"] == "not to be kept"
    log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
    assert (log["inputs"], log["output"], log["messages"], log["provider_request"]) == ({}, None, None, None)
    assert log["provider_response"] is None
    assert (log["metadata"], log["tokens"], log["save"]) == ({"kept": True}, 17, False)


def test_the_error_of_a_call_with_save_false_has_no_text_of_the_provider(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(status=400, error={"message": "I will not discuss a secret"})
    refused = api.post("/chat", json=CHAT | {"project": "unsaved", "inputs": {"a": "b"}, "save": False})
    assert "a secret" in refused.json()["detail"]["message"]
    project = next(it for it in ok(api.get("/projects"))["records"] if it["name"] == "unsaved")
    (log, *_) = ok(api.get("/logs", params={"project_id": project["id"]}))["records"]
    assert (log["save"], log["error"][:11]) == (False, "OpenAI: unp")
    assert "secret" not in json.dumps(log)


def test_an_answer_of_another_type_is_its_json_text(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content={"an": "object"})
    answered = ok(api.post("/chat", json=CHAT | {"project": "odd-answers"}))
    assert json.loads(answered["data"][0]["output"]) == {"an": "object"}
    log = ok(api.get(f"/logs/{answered['data'][0]['id']}"))
    assert (log["error"], log["output"]) == (None, answered["data"][0]["output"])
    assert log["prompt_cost"] > 0


def test_a_later_output_of_a_log_with_save_false_is_not_stored(api: httpx.Client) -> None:
    body = {"project": "unsaved", "config": TOOL, "save": False}
    made = ok(api.post("/logs", json=body))
    log = ok(api.patch(f"/logs/{made['id']}", json={"output": "a secret", "duration": 1.5}))
    assert (log["output"], log["duration"]) == (None, 1.5)
    assert "a secret" not in json.dumps(ok(api.get(f"/logs/{made['id']}")))


def test_provider_keys_of_a_request_are_used_and_stored_nowhere(
    api: httpx.Client, openai: FakeOpenAI, stack: Stack
) -> None:
    keys = {"provider_api_keys": {"openai": SECRET}}
    answer = ok(api.post("/chat", json=CHAT | keys | {"project": "secrets"}))
    assert openai.last.key == SECRET
    for body in (
        {"project": "secrets", "config": TOOL, **keys},
        {"project": "secrets", "config": TOOL, "metadata": {"inner": [keys]}, **keys},
    ):
        created = ok(api.post("/logs", json=body))
        assert SECRET not in api.get(f"/logs/{created['id']}").text
    escaped = (
        b'{"project": "secrets", "config": {"type": "tool", "name": "t"}, "metadata": {"provider\\u005fapi_keys": "'
    )
    created = ok(
        api.post("/logs", content=escaped + SECRET.encode() + b'"}}', headers={"Content-Type": "application/json"})
    )
    assert ok(api.get(f"/logs/{created['id']}"))["metadata"] == {}
    assert SECRET not in api.get(f"/logs/{answer['data'][0]['id']}").text
    bad = api.post("/chat", json=CHAT | {"project": "secrets", "provider_api_keys": {"openai": [SECRET]}})
    assert bad.status_code == 422
    assert SECRET not in bad.text
    for path in [*(stack.folder / "logs").glob("*"), *(stack.folder / "nats").rglob("*")]:
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
