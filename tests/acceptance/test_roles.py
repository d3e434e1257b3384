"""Seed rows 1-11 and 120: Admins, Developers and Members, signed in and by API key (behaviour.md §23 A and L).

Row 12, each cell of the table, is in `tests/e2e/access/test_roles.py`. Evaluators, datasets and runs are still to come.
"""

from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from shared.contracts.principal import Role
from tests.calls import Json, ok, reference
from tests.organisations import add_organisation
from tests.people import PASSWORD, Browser, Browsers, browsers
from tests.stack import Stack

MESSAGES = [{"role": "user", "content": "Hello"}]
MOCK = {"provider": "mock", "model": "mock"}


class Team(NamedTuple):
    """An organisation with a signed-in person of each role."""

    open_browsers: Browsers
    admin: Browser
    developer: Browser
    member: Browser

    @property
    def project(self) -> Json:
        """A new project of the Admin with two versions, of which the first is deployed, and a log."""
        name = reference()
        answers = [
            ok(self.admin.post("/v4/chat", json={"project": name, "model_config": config, "messages": MESSAGES}))
            for config in (MOCK, MOCK | {"temperature": 0.5})
        ]
        log = answers[0]["data"][0]
        return {"id": answers[0]["project_id"], "name": name, "log": log["id"], "config": log["model_config_id"]} | {
            "second": answers[1]["data"][0]["model_config_id"]
        }


@pytest.fixture(scope="module")
def team(stack: Stack) -> Iterator[Team]:
    key = add_organisation(stack)
    organisation: str = ok(httpx.get(f"{stack.base_url}/api/me", headers={"X-API-KEY": key}))["organization_id"]
    with browsers(stack) as opened:
        roles: tuple[Role, ...] = ("Admin", "Developer", "Member")
        admin, developer, member = (opened.person(organisation, role)[1] for role in roles)
        yield Team(opened, admin, developer, member)


def user_id(browser: httpx.Client) -> str:
    told: str = ok(browser.get("/api/me"))["user_id"]
    return told


def deploy(browser: httpx.Client, project: Json) -> httpx.Response:
    return browser.patch(f"/v4/projects/{project['id']}/deploy-config", json={"config_id": project["second"]})


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert answer.json()["detail"]["type"] == "permission_error"
    assert "ask an Admin for the role" in answer.json()["detail"]["message"]


def test_row_1_a_member_has_one_of_three_roles(team: Team) -> None:
    assert {member["role"] for member in ok(team.admin.get("/api/members"))} == {"Admin", "Developer", "Member"}
    path = f"/api/members/{user_id(team.member)}"
    for role in ("Owner", "admin", "", None):
        assert team.admin.patch(path, json={"role": role}).status_code == 422
    assert ok(team.member.get("/api/me"))["role"] == "Member"


def test_row_2_an_admin_does_everything(team: Team) -> None:
    project = team.project
    ok(team.admin.get(f"/v4/logs/{project['log']}"))
    ok(team.admin.post("/v4/feedback", json={"data_id": project["log"], "type": "rating", "value": "good"}))
    ok(deploy(team.admin, project))
    ok(team.admin.post("/api/environments", json={"name": reference()}), 201)
    ok(team.admin.post("/api/keys", json={"name": reference()}), 201)
    ok(team.admin.post("/api/invites", json={"email": f"{reference()}@example.org"}), 201)
    ok(team.admin.patch(f"/api/members/{user_id(team.member)}", json={"role": "Member"}))
    ok(team.admin.get("/api/usage"))
    ok(team.admin.patch("/api/organization", json={"name": reference()}))


def test_row_3_a_developer_deploys_makes_environments_and_keys(team: Team) -> None:
    ok(deploy(team.developer, team.project))
    ok(team.developer.post("/api/environments", json={"name": reference()}), 201)
    ok(team.developer.post("/api/keys", json={"name": reference()}), 201)


def test_row_4_a_developer_neither_invites_nor_assigns_roles_nor_sees_billing_nor_settings(team: Team) -> None:
    before = [ok(team.admin.get(path)) for path in ("/api/members", "/api/invites", "/api/organization")]
    refused(team.developer.post("/api/invites", json={"email": f"{reference()}@example.org"}))
    refused(team.developer.patch(f"/api/members/{user_id(team.member)}", json={"role": "Admin"}))
    refused(team.developer.get("/api/usage"))
    refused(team.developer.patch("/api/organization", json={"name": "Theirs"}))
    assert [ok(team.admin.get(path)) for path in ("/api/members", "/api/invites", "/api/organization")] == before


def test_row_5_a_member_makes_prompts_and_views_logs_and_feedback(team: Team) -> None:
    project = ok(team.member.post("/v4/projects", json={"name": reference()}), 201)
    body = {"project_id": project["id"], "model_config": MOCK, "messages": MESSAGES}
    log = ok(team.member.post("/v4/chat", json=body))["data"][0]["id"]
    ok(team.member.post("/v4/model-configs", json=MOCK | {"project_id": project["id"], "temperature": 1}))
    ok(team.member.post("/v4/feedback", json={"data_id": log, "type": "rating", "value": "bad"}))
    assert ok(team.member.get(f"/v4/logs/{log}"))["feedback"][0]["value"] == "bad"


def test_row_6_a_member_changes_no_deployment_environment_key_invite_or_role(team: Team) -> None:
    project = team.project
    refused(deploy(team.member, project))
    refused(team.member.post("/api/environments", json={"name": reference()}))
    refused(team.member.post("/api/keys", json={"name": reference()}))
    refused(team.member.get("/api/keys"))
    refused(team.member.post("/api/invites", json={"email": f"{reference()}@example.org"}))
    refused(team.member.patch(f"/api/members/{user_id(team.member)}", json={"role": "Admin"}))
    assert ok(team.admin.get(f"/v4/projects/{project['id']}/active-config"))["config"]["id"] == project["config"]


def test_row_7_members_do_not_see_the_keys_of_the_organisation(team: Team) -> None:
    new = ok(team.admin.post("/api/keys", json={"name": reference()}), 201)
    refused(team.member.get("/api/keys"))
    for browser in (team.developer, team.admin):
        seen = {key["name"]: key["tail"] for key in ok(browser.get("/api/keys"))}
        assert seen[new["name"]] == new["api_key"][-4:]


def test_row_8_a_newly_invited_member_reaches_every_project(team: Team) -> None:
    project = team.project
    invite = ok(team.admin.post("/api/invites", json={"email": f"{reference()}@example.org"}), 201)
    newcomer = team.open_browsers.open()
    body = {"token": invite["link"].partition("#")[2], "password": PASSWORD}
    newcomer.keep(ok(newcomer.post("/api/invites/accept", json=body)))
    listed = {one["id"] for one in ok(newcomer.get("/v4/projects", params={"size": 100}))["records"]}
    assert project["id"] in listed
    assert listed == {one["id"] for one in ok(team.admin.get("/v4/projects", params={"size": 100}))["records"]}
    ok(newcomer.get(f"/v4/logs/{project['log']}"))


def test_row_9_a_member_who_is_made_developer_is_one_at_the_next_request(team: Team) -> None:
    organisation = ok(team.admin.get("/api/me"))["organization_id"]
    _, person = team.open_browsers.person(organisation)
    project = team.project
    refused(deploy(person, project))
    ok(team.admin.patch(f"/api/members/{user_id(person)}", json={"role": "Developer"}))
    ok(deploy(person, project))
    ok(person.post("/api/environments", json={"name": reference()}), 201)
    ok(person.post("/api/keys", json={"name": reference()}), 201)


@pytest.mark.parametrize("role", ["Member", "Developer", "Admin"])
def test_row_10_an_invited_person_makes_an_account_and_has_the_role(team: Team, role: str) -> None:
    email, newcomer = f"{reference()}@example.org", team.open_browsers.open()
    invite = ok(team.admin.post("/api/invites", json={"email": email, "role": role}), 201)
    body = {"token": invite["link"].partition("#")[2], "password": PASSWORD, "full_name": "Grace"}
    newcomer.keep(ok(newcomer.post("/api/invites/accept", json=body)))
    assert {m["email"]: m["role"] for m in ok(team.admin.get("/api/members"))}[email] == role
    assert team.open_browsers.open().sign_in(email)["role"] == role


def test_row_11_billing_and_settings_are_for_admins(team: Team) -> None:
    for path in ("/api/usage", "/api/budgets", "/api/organization", "/api/audit-log"):
        ok(team.admin.get(path))
        refused(team.developer.get(path))
        refused(team.member.get(path))


def test_row_120_a_key_of_the_settings_works_until_it_is_revoked(team: Team, stack: Stack) -> None:
    new = ok(team.developer.post("/api/keys", json={"name": reference()}), 201)
    headers = {"X-API-KEY": new["api_key"]}
    ok(httpx.get(f"{stack.url}/projects", headers=headers))
    assert httpx.get(f"{stack.url}/projects", headers={"X-API-KEY": new["api_key"][:-1] + "_"}).status_code == 401
    assert team.admin.delete(f"/api/keys/{new['id']}").status_code == 204
    answer = httpx.get(f"{stack.url}/projects", headers=headers)
    assert (answer.status_code, answer.json()["detail"]["type"]) == (401, "authentication_error")
