"""Who answers for a model, and with whose key."""

import json
import time
from contextlib import nullcontext
from typing import Any

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.stack import Stack


@pytest.fixture
def console(api: httpx.Client, stack: Stack) -> Any:
    """The console's API with the first key; redirects and provider keys made are taken away again."""
    with httpx.Client(base_url=f"{stack.base_url}/api", headers=api.headers, timeout=60) as client:
        yield client
        for redirect in ok(client.get("/redirects")):
            client.delete("/redirects", params=redirect["asked"])
        for key in ok(client.get("/provider-keys")):
            client.delete(f"/provider-keys/{key['name']}")


def as_role(console: httpx.Client, role: str) -> dict[str, str]:
    made = ok(console.post("/keys", json={"name": f"{role}-{reference()}", "role": role}), 201)
    return {"X-API-KEY": made["api_key"]}


def body(model: str, **fields: Any) -> Json:
    return {
        "project": "routing",
        "model_config": {"model": model, "chat_template": [{"role": "system", "content": "Be brief."}]},
        "messages": [{"role": "user", "content": "Hi"}],
        **fields,
    }


def chat(api: httpx.Client, model: str, **fields: Any) -> httpx.Response:
    return api.post("/chat", json=body(model, **fields))


def log_of(api: httpx.Client, answer: Json) -> Json:
    found: Json = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
    return found


def test_a_redirected_model_is_served_by_the_other_one(
    api: httpx.Client, console: httpx.Client, openai: FakeOpenAI
) -> None:
    before = ok(chat(api, "gpt-4-0314"))
    ok(console.put("/redirects", json={"asked": {"model": "gpt-4-0314"}, "served": {"model": "gpt-4.1"}}))
    after = ok(chat(api, "gpt-4-0314"))
    assert [request.body["model"] for request in openai.requests] == ["gpt-4-0314", "gpt-4.1"]
    assert after["data"][0]["model_config_id"] == before["data"][0]["model_config_id"]
    log = log_of(api, after)
    assert log["config"]["model"] == "gpt-4-0314"
    assert (log["served_provider"], log["served_model"]) == ("openai", "gpt-4.1")
    assert after["provider_request"]["model"] == "gpt-4.1"
    assert console.delete("/redirects", params={"model": "gpt-4-0314"}).status_code == 204
    ok(chat(api, "gpt-4-0314"))
    assert openai.last.body["model"] == "gpt-4-0314"


@pytest.mark.parametrize("stream", [False, True])
def test_fallback_models_are_called_in_order_when_a_model_fails(
    api: httpx.Client, console: httpx.Client, openai: FakeOpenAI, stream: bool
) -> None:
    wanted = {"asked": {"model": "gpt-4-0613"}, "fallbacks": [{"model": "gpt-4o"}, {"model": "gpt-4o-mini"}]}
    ok(console.put("/redirects", json=wanted))
    for _ in range(6):  # three tries of two models
        openai.reply(status=503, error={"message": "overloaded"})
    answer = chat(api, "gpt-4-0613", stream=stream)
    assert answer.status_code == 200, answer.text
    models = [request.body["model"] for request in openai.requests]
    assert models == ["gpt-4-0613"] * 3 + ["gpt-4o"] * 3 + ["gpt-4o-mini"]
    if not stream:
        log = log_of(api, answer.json())
        assert (log["served_model"], log["error"], log["output"]) == ("gpt-4o-mini", None, "Fine, thank you.")


@pytest.mark.parametrize(("broken_after", "helped"), [(1, True), (2, False)], ids=["before a word", "after a word"])
def test_a_broken_stream_falls_back_only_if_no_text_was_passed_on(
    api: httpx.Client, console: httpx.Client, openai: FakeOpenAI, broken_after: int, helped: bool
) -> None:
    ok(console.put("/redirects", json={"asked": {"model": "gpt-4-0613"}, "fallbacks": [{"model": "gpt-4o"}]}))
    openai.reply(break_after_chunks=broken_after)
    with api.stream("POST", "/chat", json=body("gpt-4-0613", stream=True)) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        with nullcontext() if helped else pytest.raises(httpx.RemoteProtocolError):
            list(lines)
    log = ok(api.get(f"/logs/{json.loads(first.removeprefix('data: '))['data'][0]['id']}"))
    assert [request.body["model"] for request in openai.requests] == ["gpt-4-0613", "gpt-4o"][: 1 + helped]
    assert (log["output"], log["error"] is None) == (("Fine, thank you.", True) if helped else ("Fine,", False))
    own_prompt = 12 if helped else 0  # told by the second; that of the first is counted
    assert log["prompt_tokens"] > own_prompt
    assert log["prompt_cost"] > 0


def test_a_model_with_a_name_too_long_for_redirects_is_called_itself(
    api: httpx.Client, console: httpx.Client, openai: FakeOpenAI
) -> None:
    ok(console.put("/redirects", json={"asked": {"model": "gpt-4-0613"}, "served": {"model": "gpt-4.1"}}))
    ok(chat(api, "x" * 300))
    assert openai.last.body["model"] == "x" * 300


def test_a_request_that_the_provider_refuses_does_not_fall_back(
    api: httpx.Client, console: httpx.Client, openai: FakeOpenAI
) -> None:
    ok(console.put("/redirects", json={"asked": {"model": "gpt-4-0613"}, "fallbacks": [{"model": "gpt-4o"}]}))
    openai.reply(status=400, error={"message": "that is not for me"})
    assert chat(api, "gpt-4-0613").status_code == 422
    assert len(openai.requests) == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"asked": {"model": "gpt-4"}}, "served"),
        ({"asked": {"model": "gpt-4"}, "served": {"model": "gpt-4"}}, "served"),
        ({"asked": {"model": "gpt-4"}, "served": {"provider": "nobody", "model": "x"}}, "served.provider"),
        ({"asked": {"model": "gpt-4"}, "fallbacks": [{"model": "a"}, {"provider": "nobody", "model": "x"}]}, "[1]"),
        ({"asked": {"model": "gpt-4"}, "fallbacks": [{"model": f"m{i}"} for i in range(6)]}, "fallbacks"),
        ({"asked": {"model": ""}, "served": {"model": "x"}}, "model"),
    ],
)
def test_an_invalid_redirect_is_refused_by_field(console: httpx.Client, body: Json, named: str) -> None:
    answer = console.put("/redirects", json=body)
    assert answer.status_code == 422
    assert named in answer.text
    assert ok(console.get("/redirects")) == []


def test_deleting_an_unknown_redirect_or_provider_key_is_a_404(console: httpx.Client) -> None:
    assert console.delete("/redirects", params={"model": "nothing"}).status_code == 404
    assert console.delete("/provider-keys/openai").status_code == 404


def test_a_key_of_the_request_precedes_the_organisations_and_that_the_environments(
    api: httpx.Client, console: httpx.Client, openai: FakeOpenAI, stack: Stack
) -> None:
    kept = ok(console.put("/provider-keys/openai", json={"key": "sk-of-the-organisation-wxyz"}))
    assert (kept["name"], kept["tail"]) == ("openai", "wxyz")
    ok(chat(api, "gpt-4"))
    ok(chat(api, "gpt-4", provider_api_keys={"openai": "sk-of-the-call"}))
    console.delete("/provider-keys/openai")
    ok(chat(api, "gpt-4"))
    assert [request.key for request in openai.requests] == [
        "sk-of-the-organisation-wxyz",
        "sk-of-the-call",
        "sk-from-the-environment",
    ]
    time.sleep(0.2)  # whatever is still being written
    for path in stack.folder.rglob("*"):
        if path.is_file() and path.name != "secrets.json":
            assert b"sk-of-the-organisation" not in path.read_bytes(), path


def test_a_stored_provider_key_is_shown_nowhere(console: httpx.Client) -> None:
    ok(console.put("/provider-keys/groq", json={"key": "gsk_short"}))
    response = console.get("/provider-keys")
    assert "gsk_short" not in response.text
    assert [(key["name"], key["tail"]) for key in ok(response)] == [("groq", "")]
    answer = console.put("/provider-keys/nobody", json={"key": "a-key-for-nobody"})
    assert answer.status_code == 422
    assert "nobody" in answer.json()["detail"]["message"]
    assert "a-key-for-nobody" not in answer.text
    bad = console.put("/provider-keys/openai", json={"key": "two\nlines"})
    assert bad.status_code == 422
    assert "two" not in bad.text


def test_members_may_not_change_redirects_or_provider_keys_and_developers_may(console: httpx.Client) -> None:
    member = as_role(console, "Member")
    redirect = {"asked": {"model": "gpt-4"}, "served": {"model": "gpt-4o"}}
    assert console.put("/redirects", json=redirect, headers=member).status_code == 403
    assert console.put("/provider-keys/openai", json={"key": "sk-member-key-1"}, headers=member).status_code == 403
    assert console.get("/provider-keys", headers=member).status_code == 403
    assert ok(console.get("/redirects", headers=member)) == []
    developer = as_role(console, "Developer")
    assert console.put("/redirects", json=redirect, headers=developer).status_code == 200
    assert console.put("/provider-keys/openai", json={"key": "sk-developer-1"}, headers=developer).status_code == 200
