"""Usage and budgets over HTTP: usage adds up to the costs on the logs, and a budget warns, then refuses."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from shared.bus import Bus
from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.organisations import add_organisation
from tests.stack import Stack
from tests.stack_bus import on_bus

MESSAGES = [{"role": "user", "content": "How are you?"}]
PRICED = {"model": "gpt-4-1106-preview"}
CALL_USD = 0.00027
"""Of a call with the fake server's default reply: 12 tokens at 10 USD a million, and 5 at 30."""


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    """A client of an Admin in a new organisation; paths begin with `/v4` or `/api`."""
    headers = {"X-API-KEY": add_organisation(stack)}
    with httpx.Client(base_url=stack.base_url, headers=headers, timeout=30) as client:
        yield client


def chat(client: httpx.Client, project: str = "desk", **fields: Any) -> httpx.Response:
    body = {"project": project, "model_config": PRICED, "messages": MESSAGES} | fields
    return client.post("/v4/chat", json=body)


def events(stack: Stack, organisation: str, count: int) -> list[Json]:
    """Return the events about reached budgets of an organisation, once there are so many and no more came."""

    async def read(bus: Bus) -> list[Json]:
        jetstream = (await bus.connected_client()).jetstream()
        found: list[Json] = []
        for noun in ("warned", "exceeded"):
            subscription = await jetstream.subscribe(f"events.{organisation}.budget.{noun}", ordered_consumer=True)
            try:
                while True:
                    found.append(json.loads((await subscription.next_msg(0.5)).data))
            except TimeoutError:
                await subscription.unsubscribe()
        return found

    deadline = time.monotonic() + 10
    while True:
        found = asyncio.run(on_bus(stack, read))
        if len(found) >= count or time.monotonic() > deadline:
            return found


def test_usage_adds_up_to_the_costs_on_the_logs(admin: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(prompt_tokens=1234, generation_tokens=567)
    project_id = ok(chat(admin))["project_id"]
    assert chat(admin, stream=True, num_samples=2).status_code == 200
    ok(chat(admin, num_samples=3))
    completion = {"project": "desk", "model_config": {"model": "davinci-002", "prompt_template": "x"}, "inputs": {}}
    ok(admin.post("/v4/completion", json=completion))
    openai.reply(status=400)
    assert chat(admin).status_code == 422
    posted = {"project": "desk", "config": PRICED, "inputs": {}, "output": "x", "prompt_cost": 1.0, "output_cost": 1.0}
    posted_id = ok(admin.post("/v4/logs", json=posted | {"prompt_tokens": 5, "output_tokens": 5}))["id"]
    logs = ok(admin.get("/v4/logs", params={"project_id": project_id, "size": 50}))["records"]
    generated = [log for log in logs if log["id"] != posted_id]
    assert len(generated) == len(logs) - 1 == 8
    usage = ok(admin.get("/api/usage", params={"group_by": "model,key_id"}))
    costs = [log[name] or 0 for log in generated for name in ("prompt_cost", "output_cost")]
    assert round(usage["total"]["cost"] * 1e9) == sum(round(cost * 1e9) for cost in costs) > 0
    for name, logged in {"prompt_tokens": "prompt_tokens", "completion_tokens": "output_tokens"}.items():
        assert usage["total"][name] == sum(log[logged] or 0 for log in generated)
    assert usage["total"]["total_tokens"] == sum(log["tokens"] or 0 for log in generated)
    assert [(row["model"], row["calls"], row["failed_calls"]) for row in usage["rows"]] == [
        ("gpt-4-1106-preview", 5, 1),
        ("davinci-002", 1, 0),
    ]
    assert {row["provider"] for row in usage["rows"]} == {None}
    (key_id,) = {row["key_id"] for row in usage["rows"]}
    assert ok(admin.get("/api/usage", params={"key_id": key_id}))["total"] == usage["total"]
    assert ok(admin.get("/api/usage", params={"month": "2020-01"}))["total"]["calls"] == 0


def test_a_budget_warns_once_and_then_refuses_on_every_endpoint(
    admin: httpx.Client, stack: Stack, openai: FakeOpenAI
) -> None:
    organisation = ok(admin.get("/api/me"))["organization_id"]
    made = ok(chat(admin))
    project_id, config_id = made["project_id"], made["data"][0]["model_config_id"]
    completion = {"model": "davinci-002", "prompt_template": "x"}
    text = ok(admin.post("/v4/completion", json={"project": "text", "model_config": completion, "inputs": {}}))
    budget = ok(admin.put(f"/api/budgets/projects/{project_id}", json={"amount": 3 * CALL_USD, "warn_at": 0.6}))
    assert (budget["scope"], budget["id"], budget["amount"], budget["spent"]) == (
        "project",
        project_id,
        3 * CALL_USD,
        CALL_USD,
    )
    assert not budget["is_exceeded"]
    ok(chat(admin))
    assert [event["warn_at"] for event in events(stack, organisation, 1)] == [0.6]
    ok(chat(admin))
    openai.clear()
    common = {"project": "desk", "messages": MESSAGES}
    refused = [
        chat(admin),
        chat(admin, stream=True),
        admin.post("/v4/chat-deployed", json=common),
        admin.post("/v4/chat-model-config", json=common | {"model_config_id": config_id}),
    ]
    ok(admin.put("/api/budgets/organization", json={"amount": "0.000000001"}))
    named = {"project": "text", "inputs": {}}
    refused += [
        admin.post("/v4/completion", json=named | {"model_config": completion, "stream": True}),
        admin.post("/v4/completion-deployed", json=named),
        admin.post("/v4/completion-model-config", json=named | {"model_config_id": text["data"][0]["model_config_id"]}),
    ]
    assert [response.status_code for response in refused] == [429] * 7
    assert openai.requests == []
    now = datetime.now(UTC)
    for response in refused:
        detail, seconds = response.json()["detail"], int(response.headers["Retry-After"])
        assert (detail["type"], detail["origin"]) == ("rate_limit_error", "Humanloop")
        assert 0 < seconds <= 31 * 86_400
        assert f"for {now:%B %Y}, $" in detail["message"]
        assert "Ask an Admin to raise it" in detail["message"]
    assert "the project 'desk'" in refused[0].json()["detail"]["message"]
    assert "your organisation" in refused[-1].json()["detail"]["message"]
    reached = events(stack, organisation, 4)
    assert sorted((event["scope"], event.get("scope_id", ""), "warn_at" in event) for event in reached) == [
        ("organisation", "", False),
        ("organisation", "", True),
        ("project", project_id, False),
        ("project", project_id, True),
    ]
    assert admin.delete("/api/budgets/organization").status_code == 204
    ok(chat(admin, "other"))
    assert chat(admin).status_code == 429
    ok(admin.put(f"/api/budgets/projects/{project_id}", json={"amount": 1}))
    ok(chat(admin))


def test_budgets_are_listed_also_of_what_is_gone(admin: httpx.Client) -> None:
    project_id = ok(chat(admin))["project_id"]
    key = ok(admin.post("/api/keys", json={"name": reference()}), 201)
    for path in (f"keys/{key['id']}", f"projects/{project_id}", "organization"):
        ok(admin.put(f"/api/budgets/{path}", json={"amount": 0.5}))
    assert admin.delete(f"/api/keys/{key['id']}").status_code == 204
    assert admin.delete(f"/v4/projects/{project_id}").status_code == 204
    listed = ok(admin.get("/api/budgets"))
    assert [(budget["scope"], budget["id"]) for budget in listed] == [
        ("organization", None),
        ("project", project_id),
        ("key", key["id"]),
    ]
    assert [budget["spent"] for budget in listed] == [CALL_USD, CALL_USD, 0]
    assert ok(admin.get("/api/usage", params={"project_id": project_id}))["total"]["cost"] == CALL_USD
    for path in (f"keys/{key['id']}", f"projects/{project_id}", "organization"):
        assert admin.delete(f"/api/budgets/{path}").status_code == 204
        assert admin.delete(f"/api/budgets/{path}").status_code == 404
    assert ok(admin.get("/api/budgets")) == []


def test_the_budget_of_a_key_refuses_that_key_alone(admin: httpx.Client, stack: Stack) -> None:
    key = ok(admin.post("/api/keys", json={"name": reference()}), 201)
    ok(admin.put(f"/api/budgets/keys/{key['id']}", json={"amount": CALL_USD}))
    with httpx.Client(base_url=stack.base_url, headers={"X-API-KEY": key["api_key"]}, timeout=30) as client:
        assert [chat(client).status_code for _ in range(3)] == [200, 429, 429]
        assert "this API key" in chat(client).json()["detail"]["message"]
        ok(client.post("/v4/logs", json={"project": "desk", "config": PRICED, "inputs": {}, "output": "x"}))
    ok(chat(admin))
    assert ok(admin.get("/api/usage", params={"key_id": key["id"]}))["total"]["cost"] == CALL_USD


@pytest.mark.parametrize("number", [0.1, 123.456789012, 1_000_000_000, 0.000000001, 0])
def test_an_amount_is_kept_to_the_nano_dollar(admin: httpx.Client, number: float) -> None:
    assert ok(admin.put("/api/budgets/organization", json={"amount": number}))["amount"] == number
    assert ok(admin.get("/api/budgets"))[0]["amount"] == number


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "amount"),
        ({"amount": -1}, "amount"),
        ({"amount": 0.0000000001}, "amount"),
        ({"amount": 1_000_000_001}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "lots"}, "amount"),
        ({"amount": 1, "warn_at": 0}, "warn_at"),
        ({"amount": 1, "warn_at": 1.1}, "warn_at"),
        ({"amount": 1, "warnat": 0.5}, "warnat"),
    ],
)
def test_a_budget_that_is_none_is_refused_and_named(admin: httpx.Client, body: Json, named: str) -> None:
    response = admin.put("/api/budgets/organization", json=body)
    assert response.status_code == 422
    assert named in response.text
    assert ok(admin.get("/api/budgets")) == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"month": "2026-13"}, "month"),
        ({"month": "november"}, "month"),
        ({"month": "2026-11-01"}, "month"),
        ({"until": "2026"}, "until"),
        ({"month": "2026-11", "until": "2026-10"}, "until"),
        ({"group_by": "model,color"}, "group_by"),
        ({"key_id": "key_unknown"}, "API key"),
        ({"project_id": "pr_unknown"}, "project"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused_and_named(
    admin: httpx.Client, query: dict[str, str], named: str
) -> None:
    response = admin.get("/api/usage", params=query)
    assert response.status_code in {404, 422}
    assert named in response.text
