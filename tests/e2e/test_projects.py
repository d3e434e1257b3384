"""Projects, environments and deployments as clients of v4 and people of the console meet them."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.calls import Json, list_sessions, ok, reference, search_log, session_tree
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts
from tests.stack import Stack

MESSAGES = [{"role": "user", "content": "Hi"}]


@contextmanager
def acting_as(role: str, api: httpx.Client, stack: Stack) -> Iterator[httpx.Client]:
    """A client with a key of this role."""
    key = ok(api.post(f"{stack.base_url}/api/keys", json={"name": reference(), "role": role}), 201)["api_key"]
    with httpx.Client(base_url=stack.url, headers={"X-API-KEY": key}, timeout=60) as client:
        yield client


def project_with_two_versions(api: httpx.Client) -> tuple[str, str, str]:
    """Its id and the versions; the first is deployed."""
    body = {"project": f"project-{reference()}", "model": "gpt-4", "endpoint": "chat"}
    first, second = [ok(api.post("/model-configs", json=body | {"temperature": value})) for value in (0, 1)]
    return first["project_id"], first["config"]["id"], second["config"]["id"]


def environment(api: httpx.Client, stack: Stack) -> Json:
    """A new one."""
    made: Json = ok(api.post(f"{stack.base_url}/api/environments", json={"name": f"staging-{reference()}"}), 201)
    return made


def test_every_project_method_of_the_sdk_works(
    api: httpx.Client, stack: Stack, sdk735: SdkScripts, openai: FakeOpenAI
) -> None:
    openai.reply(content="Hello.")
    name, staging = f"sdk-{reference()}", environment(api, stack)["id"]
    said = sdk735.run("projects/project_methods.py", name=name, staging=staging)
    first, second = said["configs"]
    log_id, used = said["chat_deployed"]
    project_id, production = said["created"][0], said["get_active_config"][2]
    assert said["created"] == [project_id, name, None, 0, []]
    assert len(said["users"]) >= 1
    assert said["feedback_types"] == {
        "rating": {"good": "positive", "bad": "negative"},
        "action": [],
        "issue": [],
        "correction": None,
        "comment": None,
    }
    assert said["added"] == ["action", [["copied", "positive"]]]
    assert said["list_configs"] == [[second, "gpt-4", 0, name], [first, "gpt-4", 0, name]]
    assert said["get_active_config"] == [first, 0.5, production]
    assert used == first
    assert said["export"] == [1, 0, 5]
    assert said["exported"] == [[log_id, first, "Hello.", name]]
    assert said["deploy_config"] == [[production, second, "default"], [staging, second, "other"]]
    assert said["chat_after"] == second
    assert said["delete_deployed_config"] is None
    assert said["list_deployed_configs"][production] == second
    assert said["list_deployed_configs"][staging] is None
    assert said["updated"] == [f"{name}-2", first, "model", 2]
    assert said["got"] == [f"{name}-2", f"{name}-2", 1]
    assert said["list"] == [1, [[project_id, first]]]
    assert said["deactivated"] is None
    assert said["after"] == 0


def test_a_member_may_change_no_deployment_and_no_environment(api: httpx.Client, stack: Stack) -> None:
    project_id, first, second = project_with_two_versions(api)
    before = ok(api.get(f"/projects/{project_id}"))
    environments = ok(api.get(f"{stack.base_url}/api/environments"))
    production = next(one["id"] for one in environments if one["default"])
    with acting_as("Member", api, stack) as member:
        console = f"{stack.base_url}/api/environments"
        refused = [
            member.patch(f"/projects/{project_id}/deploy-config", json={"config_id": second}),
            member.delete(f"/projects/{project_id}/deployed-config/{production}"),
            member.delete(f"/projects/{project_id}/active-config"),
            member.delete(f"/projects/{project_id}"),
            member.patch(f"/projects/{project_id}", json={"active_config_id": second, "name": reference()}),
            member.post(console, json={"name": reference()}),
            member.patch(f"{console}/{production}", json={"name": reference()}),
            member.delete(f"{console}/{production}"),
        ]
        assert [answer.status_code for answer in refused] == [403] * 8
        assert {answer.json()["detail"]["type"] for answer in refused} == {"permission_error"}
        assert ok(member.get(console)) == environments
        assert ok(member.get(f"/projects/{project_id}")) == before
        assert before["active_config"]["config"]["id"] == first
        mine = ok(member.post("/projects", json={"name": reference()}), 201)
        ok(member.patch(f"/projects/{mine['id']}", json={"name": reference()}))
        body = {"project_id": mine["id"], "model": "gpt-4", "endpoint": "chat"}
        ok(member.post("/model-configs", json=body))
        assert ok(member.get(f"/projects/{mine['id']}"))["active_config"] is None
        assert member.delete(f"/projects/{mine['id']}").status_code == 204


def test_deployments_of_a_developer_are_in_the_history_with_their_user(api: httpx.Client, stack: Stack) -> None:
    project_id, first, second = project_with_two_versions(api)
    with acting_as("Developer", api, stack) as developer:
        staging = environment(developer, stack)
        wanted = {"config_id": second, "environments": [{"id": staging["id"], "name": staging["name"]}]}
        (row,) = ok(developer.patch(f"/projects/{project_id}/deploy-config", json=wanted))
        assert (row["model_config_id"], row["environment_name"], row["environment_tag"]) == (
            second,
            staging["name"],
            "other",
        )
        assert developer.delete(f"/projects/{project_id}/deployed-config/{staging['id']}").json() is None
    page = ok(api.get(f"{stack.base_url}/api/projects/{project_id}/deployments"))
    assert page["total"] == 3
    assert [(one["environment_name"], one["config_id"], one["previous_config_id"]) for one in page["records"]] == [
        (staging["name"], None, second),
        (staging["name"], second, None),
        ("production", first, None),
    ]
    assert all("@" in one["user_email"] and one["user_id"].startswith("usr_") for one in page["records"])
    newest = ok(api.get(f"{stack.base_url}/api/projects/{project_id}/deployments", params={"size": 1, "page": 1}))
    assert newest["records"] == page["records"][1:2]


def test_environments_can_be_renamed_made_the_default_and_deleted(api: httpx.Client, stack: Stack) -> None:
    console = f"{stack.base_url}/api/environments"
    project_id, first, second = project_with_two_versions(api)
    staging = environment(api, stack)
    one = f"{console}/{staging['id']}"
    production = next(it for it in ok(api.get(console)) if it["default"])
    deploy = {"config_id": second, "environments": [{"id": staging["id"]}]}
    ok(api.patch(f"/projects/{project_id}/deploy-config", json=deploy))

    def used(**fields: str) -> httpx.Response:
        return api.post("/chat-deployed", json={"project_id": project_id, "messages": MESSAGES, **fields})

    new = f"test-{reference()}"
    ok(api.patch(one, json={"name": new}))
    assert used(environment=staging["name"]).status_code == 404
    assert ok(used(environment=new))["data"][0]["model_config_id"] == second
    assert ok(used())["data"][0]["model_config_id"] == first
    assert api.post(console, json={"name": new}).status_code == 409
    assert api.patch(one, json={"default": False}).status_code == 422
    try:
        assert ok(api.patch(one, json={"default": True}))["default"] is True
        assert ok(used())["data"][0]["model_config_id"] == second
        assert api.delete(one).status_code == 409
    finally:
        ok(api.patch(f"{console}/{production['id']}", json={"default": True}))
    assert api.delete(one).status_code == 204
    assert used(environment=new).status_code == 404
    assert api.get(f"/projects/{project_id}/active-config", params={"environment": new}).status_code == 404
    assert ok(api.get(f"/projects/{project_id}/active-config"))["config"]["id"] == first


def test_a_renamed_project_is_known_by_its_new_name_alone(api: httpx.Client) -> None:
    old, new = reference(), reference()
    log = search_log(api, project=old)
    assert ok(api.patch(f"/projects/{log['project_id']}", json={"name": new}))["name"] == new
    assert search_log(api, project=new)["project_id"] == log["project_id"]
    assert ok(api.get(f"/logs/{log['id']}"))["project"] == new
    other = search_log(api, project=old)
    assert other["project_id"] != log["project_id"], "the old name is free: naming it makes a project"
    taken = api.patch(f"/projects/{other['project_id']}", json={"name": new})
    assert taken.status_code == 409
    assert api.post("/projects", json={"name": new}).status_code == 409


def test_deleting_a_project_takes_its_logs_and_leaves_the_others(api: httpx.Client) -> None:
    gone, kept, session, alone = reference(), reference(), reference(), reference()
    parent = search_log(api, project=gone, session_reference_id=session, reference_id=reference())
    child = search_log(api, project=kept, session_reference_id=session, parent_id=parent["id"])
    lonely = search_log(api, project=gone, session_reference_id=alone)
    assert api.delete(f"/projects/{parent['project_id']}").status_code == 204
    for path in (f"/projects/{parent['project_id']}", f"/logs/{parent['id']}", f"/logs/{lonely['id']}"):
        assert api.get(path).status_code == 404
    assert api.get("/logs", params={"project_id": parent["project_id"]}).status_code == 404
    assert api.get(f"/sessions/{lonely['session_id']}").status_code == 404
    left = ok(api.get(f"/sessions/{child['session_id']}"))
    assert (left["datapoints_count"], [one["id"] for one in left["projects"]]) == (1, [child["project_id"]])
    assert list(list_sessions(api, child["project_id"])) == [child["session_id"]]
    assert [(node["id"], node["state"]) for node in session_tree(api, child["session_id"])] == [(child["id"], "orphan")]
    config_id = ok(api.get(f"/logs/{child['id']}"))["config"]["id"]
    assert config_id
    again = search_log(api, project=gone)
    assert again["project_id"] != parent["project_id"]
    assert ok(api.get(f"/projects/{again['project_id']}"))["data_count"] == 1
    assert api.delete(f"/projects/{parent['project_id']}").status_code == 404


def test_invalid_requests_about_projects_are_refused_by_field_and_change_nothing(api: httpx.Client) -> None:
    project_id, first, _ = project_with_two_versions(api)
    other, foreign, _ = project_with_two_versions(api)
    deploy, types = f"/projects/{project_id}/deploy-config", f"/projects/{project_id}/feedback-types"
    for method, path, body, status, said in (
        ("PATCH", deploy, {}, 422, "config_id"),
        ("PATCH", deploy, {"config_id": foreign}, 422, "does not belong"),
        ("PATCH", deploy, {"config_id": "config_unknown"}, 404, "config_unknown"),
        ("PATCH", deploy, {"config_id": first, "environments": []}, 422, "environments"),
        ("PATCH", deploy, {"config_id": first, "environments": [{"id": "env_unknown"}]}, 404, "env_unknown"),
        ("PATCH", f"/projects/{project_id}", {"active_config_id": foreign}, 422, "does not belong"),
        ("PATCH", f"/projects/{project_id}", {"name": ""}, 422, "name"),
        ("POST", "/projects", {}, 422, "name"),
        ("POST", "/projects", {"name": "x" * 256}, 422, "name"),
        ("POST", "/projects", {"name": "x", "directory_id": "x" * 256}, 422, "directory_id"),
        ("PATCH", f"/projects/{project_id}", {"name": "x" * 256}, 422, "name"),
        ("POST", types, {"type": "x" * 256}, 422, "type"),
        ("POST", types, {"type": "action", "values": [{"value": "x" * 256}]}, 422, "value"),
        ("POST", types, {"type": "action", "values": [{"value": str(it)} for it in range(1001)]}, 422, "values"),
        ("PATCH", types, [{"type": str(it)} for it in range(96)], 422, "type"),
        ("POST", types, {"type": "comment", "class": "select"}, 422, "class"),
        ("POST", types, {"type": "mood", "class": "text", "values": [{"value": "x"}]}, 422, "values"),
        ("POST", types, {"type": "mood", "class": "colour"}, 422, "class"),
        ("PATCH", "/projects/pr_unknown", {"name": "x"}, 404, "pr_unknown"),
        ("DELETE", f"/projects/{project_id}/deployed-config/env_unknown", None, 404, "env_unknown"),
    ):
        answer = api.request(method, path, json=body)
        assert answer.status_code == status, (method, path, body, answer.text)
        assert said in answer.text
    unchanged = ok(api.get(f"/projects/{project_id}"))
    assert unchanged["active_config"]["config"]["id"] == first
    assert [one["type"] for one in unchanged["feedback_types"]] == [
        "rating",
        "action",
        "issue",
        "correction",
        "comment",
    ]
    assert ok(api.get(f"/projects/{other}"))["active_config"]["config"]["id"] == foreign


def test_projects_are_found_by_name_and_by_member(api: httpx.Client) -> None:
    name = f"Zebra-{reference()}"
    made = ok(api.post("/projects", json={"name": name, "feedback_types": [{"type": "mood", "class": "number"}]}), 201)
    assert made["feedback_types"][-1] == {"type": "mood", "class": "number", "values": None}
    member = made["users"][0]
    for filters in ({"filter": name.lower()}, {"filter": name, "user_filter": member["email_address"].upper()}):
        page = ok(api.get("/projects", params=filters))
        assert [one["id"] for one in page["records"]] == [made["id"]]
        assert page["records"][0] == made
    nobody = ok(api.get("/projects", params={"filter": name, "user_filter": "nobody@example.net"}))
    assert (nobody["records"], nobody["total"]) == ([], 0)
    newest = ok(api.get("/projects", params={"size": 1}))
    assert newest["records"] == [made]


def test_defining_a_feedback_type_again_adds_and_updates_labels(api: httpx.Client) -> None:
    made = ok(api.post("/projects", json={"name": reference()}), 201)
    path = f"/projects/{made['id']}/feedback-types"
    ok(api.post(path, json={"type": "action", "values": [{"value": "copied"}], "provider_api_keys": {}}), 201)
    wanted = [
        {"type": "action", "values": [{"value": "copied", "sentiment": "positive"}, {"value": "saved"}]},
        {"type": "rating", "class": "select", "values": [{"value": "so-so", "sentiment": "neutral"}]},
    ]
    types = {one["type"]: one["values"] for one in ok(api.patch(path, json=wanted))}
    assert types["action"] == [
        {"value": "copied", "sentiment": "positive"},
        {"value": "saved", "sentiment": "unset"},
    ]
    assert [label["value"] for label in types["rating"]] == ["good", "bad", "so-so"]
    read = {one["type"]: one["values"] for one in ok(api.get(f"/projects/{made['id']}"))["feedback_types"]}
    assert read == types
