"""Members over HTTP: who is calling, the list, roles that change, members who are removed."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from shared.contracts.principal import Role
from tests.calls import Json, ok, reference
from tests.organisations import add_member, add_organisation
from tests.stack import Stack

Client = Callable[[str], httpx.Client]


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    """Makes an HTTP client for an API key; its paths begin with `/v4` or `/api`."""
    with ExitStack() as opened:
        yield lambda key: opened.enter_context(
            httpx.Client(base_url=stack.base_url, headers={"X-API-KEY": key}, timeout=30)
        )


@pytest.fixture
def admin(stack: Stack, client: Client) -> httpx.Client:
    """The Admin of a new organisation."""
    return client(add_organisation(stack))


def me(client: httpx.Client) -> Json:
    """Who the client is."""
    answer: Json = ok(client.get("/api/me"))
    return answer


def new_member(stack: Stack, client: Client, admin: httpx.Client, role: Role) -> tuple[str, httpx.Client]:
    """Return the id and the client of a new member in the organisation of the Admin."""
    user, key = add_member(stack, me(admin)["organization_id"], role)
    return user, client(key)


def test_a_caller_is_told_who_they_are_and_what_they_may_do(stack: Stack, client: Client, admin: httpx.Client) -> None:
    user, member = new_member(stack, client, admin, "Member")
    told = me(member)
    assert (told["user_id"], told["role"], told["kind"], told["expires_at"]) == (user, "Member", "api_key", None)
    assert told["capabilities"] == [
        "prompts.edit",
        "logs.view",
        "evaluators.edit",
        "evaluations.run",
        "datasets.edit",
    ]
    assert len(me(admin)["capabilities"]) == 12


def test_members_are_listed_with_role_and_time(stack: Stack, client: Client, admin: httpx.Client) -> None:
    user, member = new_member(stack, client, admin, "Developer")
    listed = ok(member.get("/api/members"))
    assert {one["id"]: one["role"] for one in listed} == {me(admin)["user_id"]: "Admin", user: "Developer"}
    assert all(one["joined_at"] and one["email"] for one in listed)


def test_a_member_who_is_promoted_may_do_more_with_the_next_request(
    stack: Stack, client: Client, admin: httpx.Client
) -> None:
    user, _ = new_member(stack, client, admin, "Developer")
    key = ok(admin.post("/api/keys", json={"name": reference(), "role": "Developer"}), 201)
    developer = client(key["api_key"])
    assert developer.post("/api/environments", json={"name": reference()}).status_code == 201
    demoted = ok(admin.patch(f"/api/members/{user}", json={"role": "Member"}))
    assert (demoted["id"], demoted["role"]) == (user, "Member")


def test_a_changed_role_is_obeyed_by_the_next_request(stack: Stack, client: Client, admin: httpx.Client) -> None:
    user, member = new_member(stack, client, admin, "Developer")
    assert member.get("/api/keys").status_code == 200
    ok(admin.patch(f"/api/members/{user}", json={"role": "Member"}))
    deadline = time.monotonic() + 0.1
    while (status := member.get("/api/keys").status_code) == 200:
        assert time.monotonic() < deadline
    assert status == 403
    ok(admin.patch(f"/api/members/{user}", json={"role": "Developer"}))


def test_who_is_removed_is_out_with_the_next_request(stack: Stack, client: Client, admin: httpx.Client) -> None:
    user, member = new_member(stack, client, admin, "Admin")
    assert member.get("/v4/projects").status_code == 200
    assert admin.delete(f"/api/members/{user}").status_code == 204
    deadline = time.monotonic() + 0.1
    while (status := member.get("/v4/projects").status_code) == 200:
        assert time.monotonic() < deadline
    assert status == 401
    assert admin.delete(f"/api/members/{user}").status_code == 404


def test_the_last_admin_stays(admin: httpx.Client) -> None:
    own = me(admin)["user_id"]
    for answer in (admin.delete(f"/api/members/{own}"), admin.patch(f"/api/members/{own}", json={"role": "Member"})):
        assert answer.status_code == 409
        assert "at least one Admin" in answer.text
    assert me(admin)["role"] == "Admin"


@pytest.mark.parametrize("body", [{}, {"role": "Owner"}, {"role": None}, {"role": "Admin", "email": "x"}])
def test_a_wrong_change_names_the_field(stack: Stack, client: Client, admin: httpx.Client, body: Json) -> None:
    user, _ = new_member(stack, client, admin, "Member")
    answer = admin.patch(f"/api/members/{user}", json=body)
    assert answer.status_code == 422
    assert ("email" if "email" in body else "role") in answer.text


def test_members_of_another_organisation_are_out_of_reach(stack: Stack, client: Client, admin: httpx.Client) -> None:
    other = client(add_organisation(stack))
    theirs = me(other)["user_id"]
    assert admin.patch(f"/api/members/{theirs}", json={"role": "Member"}).status_code == 404
    assert admin.delete(f"/api/members/{theirs}").status_code == 404
    assert me(other)["role"] == "Admin"


def test_a_key_says_when_it_expires_and_is_refused_then(client: Client, admin: httpx.Client) -> None:
    for wrong in ("2020-01-01T00:00:00Z", "0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59-12:00", "soon", True):
        answer = admin.post("/api/keys", json={"name": "old", "expires_at": wrong})
        assert answer.status_code == 422
        assert "expires_at" in answer.text
    assert len(ok(admin.get("/api/keys"))) == 1
    made = ok(admin.post("/api/keys", json={"name": "long", "expires_at": "2099-01-01T00:00:00"}), 201)
    assert made["expires_at"].startswith("2099-01-01")
    assert me(client(made["api_key"]))["expires_at"].startswith("2099-01-01")
    shown = {key["name"]: key for key in ok(admin.get("/api/keys"))}
    assert shown["long"]["expires_at"].startswith("2099-01-01")
