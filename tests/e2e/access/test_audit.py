"""The audit log over HTTP: every audited operation is in it within a second, with who, with which key, from where."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from shared.contracts.audit_actions import AUDIT_ACTIONS
from shared.contracts.principal import Role
from tests.calls import Json, ok, reference
from tests.organisations import add_member, add_organisation
from tests.stack import Stack

CANARY = "canary-5f0c8d7e-never-in-an-entry"
MOCK = {"provider": "mock", "model": "mock"}
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


def log_of(admin: httpx.Client, **filters: Any) -> list[Json]:
    """Return all entries that match, the oldest first."""
    lines = admin.get("/api/audit-log/export", params=filters).text.splitlines()
    return [json.loads(line) for line in reversed(lines)]


class Walk:
    """Sends operations one after the other, and looks each up in the audit log."""

    def __init__(self, admin: httpx.Client) -> None:
        self._admin = admin
        me = ok(admin.get("/api/me"))
        self.user = me["user_id"]
        self._email = me["email"]
        (self._key,) = [key["id"] for key in ok(admin.get("/api/keys"))]
        self.seen: list[Json] = []

    def send(self, method: str, path: str, body: Any = None, *, actions: list[str], **params: Any) -> Any:
        """Send a request; within a second the log has these actions more, and no other. Return the answer's JSON."""
        sent = time.monotonic()
        answer = self._admin.request(method, path, json=body, params=params)
        assert answer.is_success, answer.text
        while True:
            new = [entry for entry in log_of(self._admin) if entry["id"] not in {one["id"] for one in self.seen}]
            if len(new) >= len(actions) or time.monotonic() > sent + 1:
                break
        assert sorted(entry["action"] for entry in new) == sorted(actions)
        for entry in new:
            assert entry["actor"] == {
                "kind": "api_key", "user_id": self.user, "email": self._email, "key_id": self._key, "service": None,
            }  # fmt: skip
            assert entry["address"] == "127.0.0.1"
            assert entry["trace_id"] == answer.headers["X-Trace-Id"]
        self.seen += new
        return answer.json() if answer.content and "json" in answer.headers.get("content-type", "") else None


def test_every_audited_operation_is_in_the_log_within_a_second_and_without_secrets(
    stack: Stack, admin: httpx.Client
) -> None:
    walk = Walk(admin)
    change_access(walk, stack, admin)
    project = change_a_project(walk)
    change_environments(walk, admin)
    change_what_has_secrets(walk)
    delete_logs(walk, project)
    walk.send("DELETE", f"/v4/projects/{project}", actions=["project.deleted"])
    assert CANARY not in json.dumps(log_of(admin))
    expected = {action for action in AUDIT_ACTIONS if action.partition(".")[0] in _NOUNS_OF_OPERATIONS}
    assert expected - {"member.added"} == {entry["action"] for entry in walk.seen}


def change_access(walk: Walk, stack: Stack, admin: httpx.Client) -> None:
    organisation = ok(admin.get("/api/me"))["organization_id"]
    colleague, _ = add_member(stack, organisation, "Member")
    # access
    key = walk.send("POST", "/api/keys", {"name": "nightly"}, actions=["api_key.created"])
    walk.send("DELETE", f"/api/keys/{key['id']}", actions=["api_key.revoked"])
    walk.send("DELETE", f"/api/keys/{key['id']}", actions=[])
    walk.send("PATCH", f"/api/members/{colleague}", {"role": "Developer"}, actions=["member.role_changed"])
    walk.send("PATCH", f"/api/members/{colleague}", {"role": "Developer"}, actions=[])
    walk.send("DELETE", f"/api/members/{colleague}", actions=["member.removed"])


def change_a_project(walk: Walk) -> str:
    """Return the id of the project, in which something is deployed."""
    project: str = walk.send("POST", "/v4/projects", {"name": "desk"}, actions=["project.created"])["id"]
    configs = [
        walk.send("POST", "/v4/model-configs", MOCK | {"project_id": project, "temperature": heat}, actions=actions)
        for heat, actions in ((0.1, ["deployment.deployed"]), (0.2, list[str]()))
    ]
    first, second = (one["config"]["id"] for one in configs)
    path = f"/v4/projects/{project}"
    walk.send("PATCH", path, {"active_config_id": second}, actions=["deployment.deployed"])
    walk.send("PATCH", path, {"name": "table"}, actions=["project.renamed"])
    walk.send("PATCH", path, {"directory_id": "dir_1"}, actions=["project.moved"])
    walk.send("DELETE", f"{path}/active-config", actions=["deployment.undeployed"])
    for actions in (["deployment.deployed"], []):
        walk.send("PATCH", f"{path}/deploy-config", {"config_id": first}, actions=actions)
    environment = walk.send("POST", "/api/environments", {"name": "trial"}, actions=["environment.created"])["id"]
    deploy = {"config_id": second, "environments": [{"id": environment}]}
    walk.send("PATCH", f"{path}/deploy-config", deploy, actions=["deployment.deployed"])
    walk.send("DELETE", f"{path}/deployed-config/{environment}", actions=["deployment.undeployed"])
    walk.send("POST", f"{path}/feedback-types", {"type": "mood", "class": "text"}, actions=["feedback_types.defined"])
    return project


def change_environments(walk: Walk, admin: httpx.Client) -> None:
    environment = walk.send("POST", "/api/environments", {"name": "staging"}, actions=["environment.created"])["id"]
    changes, both = {"name": "live", "default": True}, ["environment.renamed", "environment.made_default"]
    walk.send("PATCH", f"/api/environments/{environment}", changes, actions=both)
    default = next(one["id"] for one in ok(admin.get("/api/environments")) if one["name"] == "production")
    made_default = ["environment.made_default"]
    walk.send("PATCH", f"/api/environments/{default}", {"default": True}, actions=made_default)
    walk.send("DELETE", f"/api/environments/{environment}", actions=["environment.deleted"])


def change_what_has_secrets(walk: Walk) -> None:
    for actions in (["provider_key.set"], []):
        walk.send("PUT", "/api/provider-keys/groq", {"key": f"gsk_{CANARY}"}, actions=actions)
    walk.send("DELETE", "/api/provider-keys/groq", actions=["provider_key.deleted"])
    settings = {"kind": "get_api", "url": f"https://example.org/{CANARY}", "query_parameters": ["q"]}
    body = {"name": "weather", "settings": settings, "secrets": {"key": f"tool-{CANARY}"}}
    tool = walk.send("POST", "/api/tools", body, actions=["tool.created"])["id"]
    walk.send("PATCH", f"/api/tools/{tool}", {"secrets": {"key": f"new-{CANARY}"}}, actions=["tool.updated"])
    walk.send("DELETE", f"/api/tools/{tool}", actions=["tool.deleted"])
    redirect = {"asked": MOCK | {"model": "old"}, "fallbacks": [MOCK]}
    walk.send("PUT", "/api/redirects", redirect, actions=["redirect.set"])
    walk.send("DELETE", "/api/redirects", provider="mock", model="old", actions=["redirect.deleted"])


def delete_logs(walk: Walk, project: str) -> None:
    """Record logs and generate, which is not audited; delete some, which is."""
    config = MOCK | {"prompt_template": CANARY}
    log = {"project_id": project, "config": config, "inputs": {"secret": CANARY}, "output": CANARY}
    logs = [one["id"] for one in walk.send("POST", "/v4/logs", [log, log, log], actions=[])]
    chat = {"project_id": project, "model_config": MOCK, "messages": [{"role": "user", "content": CANARY}]}
    walk.send("POST", "/v4/chat", chat, actions=[])
    walk.send("POST", "/v4/feedback", {"data_id": logs[0], "type": "mood", "value": CANARY}, actions=[])
    walk.send("DELETE", "/v4/logs", id=logs[:2], actions=["logs.deleted"])
    assert walk.seen[-1]["details"] == {"count": 2, "ids": logs[:2]}
    walk.send("DELETE", "/v4/logs", id=logs[:2], actions=[])


_NOUNS_OF_OPERATIONS = {
    "api_key", "member", "project", "deployment", "environment", "feedback_types", "provider_key", "tool", "redirect",
    "logs",
}  # fmt: skip
"""Of what has operations."""


def test_a_label_that_feedback_adds_is_a_change_by_the_gateway(admin: httpx.Client) -> None:
    log = {"project": reference(), "config": MOCK, "inputs": {}, "output": "x"}
    logged = ok(admin.post("/v4/logs", json=log))
    ok(admin.post("/v4/feedback", json={"data_id": logged["id"], "type": "rating", "value": "a label of its own"}))
    deadline = time.monotonic() + 1
    while not (found := log_of(admin, action="feedback_types.defined")):
        assert time.monotonic() < deadline
    assert (found[0]["actor"]["kind"], found[0]["actor"]["service"]) == ("service", "gateway")


def test_members_and_developers_are_refused_and_other_organisations_see_nothing(
    stack: Stack, client: Client, admin: httpx.Client
) -> None:
    Walk(admin).send("POST", "/api/keys", {"name": "ours"}, actions=["api_key.created"])
    me = ok(admin.get("/api/me"))
    roles: list[Role] = ["Member", "Developer"]
    for role in roles:
        _, key = add_member(stack, me["organization_id"], role)
        for path in ("/api/audit-log", "/api/audit-log/export"):
            assert client(key).get(path).status_code == 403
    stranger = client(add_organisation(stack))
    assert ok(stranger.get("/api/audit-log")) == {"entries": [], "next": None}
    for filters in ({"user_id": me["user_id"]}, {"email": me["email"]}, {"object_kind": "api_key"}):
        assert log_of(stranger, **filters) == []
        assert len(log_of(admin, **filters)) == 1


def test_nothing_changes_or_deletes_an_entry(admin: httpx.Client) -> None:
    walk = Walk(admin)
    walk.send("POST", "/api/keys", {"name": "ours"}, actions=["api_key.created"])
    before = log_of(admin)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/api/audit-log", "/api/audit-log/export"):
            assert admin.request(method, path, json={}).status_code == 405
        assert admin.request(method, f"/api/audit-log/{before[0]['id']}", json={}).status_code == 404
    assert log_of(admin) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "203.0.113.9, 127.0.0.1"},
        {"Forwarded": "for=203.0.113.9"},
        {"X-Real-IP": "203.0.113.9"},
        {"X-Forwarded-For": "203.0.113.9" + ", 127.0.0.1" * 30},
    ],
)
def test_an_address_cannot_be_made_up(admin: httpx.Client, headers: dict[str, str]) -> None:
    admin.headers.update(headers)
    Walk(admin).send("POST", "/api/keys", {"name": "from elsewhere?"}, actions=["api_key.created"])


def test_pages_and_filters(admin: httpx.Client) -> None:
    walk = Walk(admin)
    for number in range(5):
        walk.send("POST", "/api/environments", {"name": f"e{number}"}, actions=["environment.created"])
    walk.send("POST", "/api/keys", {"name": "k"}, actions=["api_key.created"])
    found: list[Json] = []
    cursor: dict[str, str] = {}
    while True:
        page = ok(admin.get("/api/audit-log", params={"limit": "2", **cursor}))
        assert len(page["entries"]) == 2
        found += page["entries"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == list(reversed(walk.seen))
    middle = walk.seen[3]["at"]
    for filters, expected in (
        ({"action": "environment"}, 5), ({"action": "api_key.created"}, 1), ({"action": "member"}, 0),
        ({"object_id": walk.seen[2]["object"]["id"]}, 1), ({"object_kind": "environment", "from": middle}, 2),
        ({"to": "2020-01-01"}, 0), ({"from": "2020-01-01"}, 6), ({"user_id": walk.user}, 6),
    ):  # fmt: skip
        assert len(log_of(admin, **filters)) == expected, filters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("action", "Member"), ("action", "a.b.c"), ("action", ""), ("from", "soon"), ("to", "9999-99-99"),
        ("limit", "0"), ("limit", "501"), ("cursor", "1-aud_x"), ("cursor", "'"), ("unknown", "x"), ("email", ""),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_named(admin: httpx.Client, name: str, value: str) -> None:
    answer = admin.get("/api/audit-log", params={name: value})
    assert answer.status_code == 422
    assert name in answer.text


def test_an_exported_table_has_no_formula(admin: httpx.Client) -> None:
    walk = Walk(admin)
    names = ['=HYPERLINK("https://example.org")', "+1", "-2+3", "@SUM(1)", 'plain, with "quotes"', "two\nlines"]
    for name in names:
        walk.send("POST", "/v4/projects", {"name": name}, actions=["project.created"])
    answer = admin.get("/api/audit-log/export", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="audit-log.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["object_name"] for row in reversed(rows)] == [*(f"'{name}" for name in names[:4]), *names[4:]]
    assert [row["id"] for row in reversed(rows)] == [entry["id"] for entry in walk.seen]
    for row in rows:
        assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for value in row.values())
        assert row["address"] == "127.0.0.1"
    assert admin.get("/api/audit-log/export", params={"format": "xls"}).status_code == 422
