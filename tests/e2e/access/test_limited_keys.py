"""A key that is limited to projects: it works in them, and of others it is answered as if they were not there."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import httpx
import pytest

from tests.calls import ok, reference
from tests.e2e.access.operations import Objects, operations
from tests.e2e.access.test_every_operation import seen
from tests.gateway_routes import ROUTES, is_limited
from tests.organisations import add_organisation
from tests.stack import Stack

LIMITED = {f"{method} {route.path}" for route in ROUTES if is_limited(route) for method in route.methods or ()}
VISIBLE = {"GET /v4/projects": 200, "GET /api/environments": 200, "GET /api/models": 200, "GET /api/tools": 200}
"""What names no project."""
IGNORED = {"DELETE /v4/logs": 204}
"""Ids of logs that are not there are ignored."""


class World(NamedTuple):
    """A project, a key for it alone, and the objects outside it, of the same organisation."""

    outside: Objects
    owner: httpx.Client
    limited: httpx.Client
    project_id: str
    name: str
    before: Any


@pytest.fixture(scope="module")
def world(stack: Stack) -> Iterator[World]:
    with ExitStack() as opened:

        def client(key: str) -> httpx.Client:
            return opened.enter_context(httpx.Client(base_url=stack.base_url, headers={"X-API-KEY": key}, timeout=30))

        owner, name = client(add_organisation(stack)), reference()
        project_id = ok(owner.post("/v4/projects", json={"name": name}), 201)["id"]
        body = {"name": reference(), "role": "Admin", "project_ids": [project_id]}
        limited = client(ok(owner.post("/api/keys", json=body), 201)["api_key"])
        outside = Objects.made_by(owner)
        yield World(outside, owner, limited, project_id, name, seen(owner, outside))


@pytest.mark.parametrize("operation", operations())
def test_nothing_outside_its_projects_is_there(world: World, operation: str) -> None:
    answer = world.outside.send(world.limited, operation)
    expected = (VISIBLE | IGNORED).get(operation, 404) if operation in LIMITED else 403
    assert answer.status_code == expected, answer.text
    for name in ("project", "log", "session"):
        assert operation not in VISIBLE or world.outside.names[name] not in answer.text
    if not operation.startswith("GET"):
        assert seen(world.owner, world.outside) == world.before


def test_a_name_of_another_project_is_answered_as_one_that_nobody_has(world: World) -> None:
    taken = world.outside.names["model"]
    chat = {"model_config": {"provider": "mock", "model": "mock"}, "messages": []}
    log = {"config": {"provider": "mock", "model": "mock"}, "inputs": {}, "output": "x"}
    for path, body in (("/v4/chat", chat), ("/v4/logs", log), ("/v4/chat-deployed", {"messages": []})):
        new = reference()
        answers = [world.limited.post(path, json=body | {"project": name}) for name in (taken, new)]
        assert [answer.status_code for answer in answers] == [404 if "deployed" in path else 403] * 2
        assert answers[0].text.replace(taken, new) == answers[1].text
    assert seen(world.owner, world.outside) == world.before


def test_it_works_in_its_project(world: World) -> None:
    messages = [{"role": "user", "content": "x"}]
    chat = {"project": world.name, "model_config": {"provider": "mock", "model": "mock"}, "messages": messages}
    log_id = ok(world.limited.post("/v4/chat", json=chat | {"session_reference_id": reference()}))["data"][0]["id"]
    assert ok(world.limited.get(f"/v4/logs/{log_id}"))["project_id"] == world.project_id
    ok(world.limited.post("/v4/feedback", json={"data_id": log_id, "type": "rating", "value": "good"}))
    log = {"project": world.name, "config": {"provider": "mock", "model": "mock"}, "inputs": {}, "output": "x"}
    assert ok(world.limited.post("/v4/logs", json=log))["project_id"] == world.project_id
    assert ok(world.limited.get("/v4/logs", params={"project_id": world.project_id}))["total"] == 2
    listed = ok(world.limited.get("/v4/projects"))
    assert ([one["id"] for one in listed["records"]], listed["total"]) == ([world.project_id], 1)
    assert world.limited.post("/v4/logs", json=log | {"parent_id": log_id}).status_code == 403


def test_a_key_is_limited_to_projects_that_are_there(world: World) -> None:
    answer = world.owner.post("/api/keys", json={"name": reference(), "project_ids": ["pr_unknown"]})
    assert (answer.status_code, "pr_unknown" in answer.text) == (404, True)
    assert world.owner.post("/api/keys", json={"name": reference(), "project_ids": []}).status_code == 422
    assert [world.project_id] in [key["project_ids"] for key in ok(world.owner.get("/api/keys"))]
