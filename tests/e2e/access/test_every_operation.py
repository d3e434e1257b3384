"""Every operation refuses who has no key or a revoked one, a role that lacks its permission, and objects of others."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import httpx
import pytest

from shared.contracts.permissions import BE_MEMBER, PERMISSIONS, ROLES
from shared.contracts.principal import Role
from tests.calls import Json, ok, reference
from tests.e2e.access.operations import REQUESTS, Objects, operations
from tests.gateway_routes import ROUTES, permissions_of
from tests.organisations import add_member, add_organisation
from tests.stack import Stack

OPERATIONS = operations()
GUARDS = {f"{method} {route.path}": permissions_of(route) for route in ROUTES for method in route.methods or ()}


class World(NamedTuple):
    """Two organisations: one with objects, and one that names them."""

    objects: Objects
    owner: httpx.Client
    strangers: dict[Role, httpx.Client]
    """Members of the other organisation."""
    nobody: httpx.Client
    revoked: httpx.Client
    before: Any
    """What the owner saw first."""


@pytest.fixture(scope="module")
def world(stack: Stack) -> Iterator[World]:
    with ExitStack() as opened:

        def client(key: str | None) -> httpx.Client:
            headers = {"X-API-KEY": key} if key else {}
            return opened.enter_context(httpx.Client(base_url=stack.base_url, headers=headers, timeout=30))

        owner, admin = client(add_organisation(stack)), client(add_organisation(stack))
        organisation = ok(admin.get("/api/me"))["organization_id"]
        strangers = {role: client(add_member(stack, organisation, role)[1]) for role in ROLES}
        key = ok(admin.post("/api/keys", json={"name": reference(), "role": "Admin"}), 201)
        assert admin.delete(f"/api/keys/{key['id']}").status_code == 204
        objects = Objects.made_by(owner)
        yield World(objects, owner, strangers, client(None), client(key["api_key"]), seen(owner, objects))


def seen(owner: httpx.Client, objects: Objects) -> Any:
    """What the owner sees of all objects, but for when keys were used."""
    names = objects.names
    paths = (
        f"/v4/projects/{names['project']}",
        f"/v4/projects/{names['project']}/configs",
        f"/v4/projects/{names['project']}/active-config",
        f"/v4/model-configs/{names['config']}",
        f"/v4/logs/{names['log']}",
        f"/v4/logs?project_id={names['project']}",
        f"/v4/sessions/{names['session']}",
        "/api/environments",
        "/api/tools",
        "/api/redirects",
        "/api/provider-keys",
        "/api/members",
        "/api/invites",
        "/api/organization",
        "/api/keys",
    )
    answers: list[Any] = [ok(owner.get(path)) for path in paths]
    keys: list[Json] = answers[-1]
    for key in keys:
        key.pop("last_used_at")
    return answers


def test_every_operation_is_walked() -> None:
    assert sorted(REQUESTS) == sorted(OPERATIONS), "give a new operation a request in operations.py"
    assert len(OPERATIONS) > 55


@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_a_valid_key_nothing_is_answered(world: World, operation: str) -> None:
    for client in (world.nobody, world.revoked):
        answer = world.objects.send(client, operation)
        assert answer.status_code == 401, answer.text
        assert answer.json()["detail"]["type"] == "authentication_error"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_role_that_lacks_the_permission_is_refused_and_objects_of_others_are_not_there(
    world: World, operation: str
) -> None:
    for role, client in world.strangers.items():
        answer = world.objects.send(client, operation)
        allowed = all(name == BE_MEMBER.name or role in PERMISSIONS[name].roles for name in GUARDS[operation])
        assert answer.status_code == (REQUESTS[operation].status if allowed else 403), (role, answer.text)
    if not operation.startswith("GET"):
        assert seen(world.owner, world.objects) == world.before, "nothing of the other organisation has changed"


@pytest.mark.parametrize("named", ["session_id", "parent_id", "session_reference_id", "parent_reference_id"])
def test_a_log_joins_no_session_of_another_organisation(world: World, named: str) -> None:
    names, stranger = world.objects.names, world.strangers["Member"]
    theirs = {
        "session_id": names["session"],
        "parent_id": names["log"],
        "session_reference_id": f"s-{names['model']}",
        "parent_reference_id": names["reference"],
    }
    config = {"provider": "mock", "model": "mock"}
    body = {"project": reference(), "config": config, "inputs": {}, "output": "x", named: theirs[named]}
    unknown = body | {named: theirs[named][:-4] + "aaaa"}
    assert [stranger.post("/v4/logs", json=sent).status_code for sent in (body, unknown)] == [200, 200]
    # A session of the same id may be theirs now; it holds nothing of the other's.
    session = stranger.get(f"/v4/sessions/{names['session']}").text
    assert names["log"] not in session
    assert names["project"] not in session
    assert seen(world.owner, world.objects) == world.before
