"""Seed rows 114, 115, 117-121 and 123: nesting, deferred output, keys, addressing (behaviour.md §23 P, Q)."""

import json
from pathlib import Path

import httpx
import pytest

from tests.calls import Json, assistant, list_sessions, moderator, ok, reference, search_log, session_tree
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts
from tests.stack import Stack


def test_row_114_a_log_is_nested_under_its_parent(api: httpx.Client) -> None:
    session, parent = reference(), reference()
    root = search_log(api, session_reference_id=session, reference_id=parent)
    children = [
        search_log(api, session_reference_id=session, parent_reference_id=parent)["id"],
        moderator(api, session_reference_id=session, parent_reference_id=parent)["data"][0]["id"],
    ]
    for child in children:
        assert ok(api.get(f"/logs/{child}"))["parent_id"] == root["id"]
    (node,) = session_tree(api, root["session_id"])
    assert node["id"] == root["id"]
    assert [child["id"] for child in node["children"]] == children


def test_row_115_logs_are_nested_at_several_levels(api: httpx.Client) -> None:
    session, first, second = reference(), reference(), reference()
    root = search_log(api, session_reference_id=session, reference_id=first)
    child = search_log(api, session_reference_id=session, parent_reference_id=first, reference_id=second)
    grandchild = assistant(api, session_reference_id=session, parent_reference_id=second)["data"][0]["id"]
    (node,) = session_tree(api, root["session_id"])
    assert node["children"][0]["id"] == child["id"]
    assert node["children"][0]["children"][0]["id"] == grandchild


def test_row_115_a_parent_may_arrive_after_its_children(api: httpx.Client) -> None:
    session, parent = reference(), reference()
    child = search_log(api, session_reference_id=session, parent_reference_id=parent)
    (waiting,) = session_tree(api, child["session_id"])
    assert (waiting["id"], waiting["state"]) == (child["id"], "orphan")
    root = search_log(api, session_reference_id=session, reference_id=parent)
    (node,) = session_tree(api, root["session_id"])
    assert (node["id"], node["children"][0]["id"], node["children"][0]["state"]) == (
        root["id"],
        child["id"],
        "attached",
    )


@pytest.mark.parametrize("by", ["id", "reference"])
def test_a_response_has_the_session_that_the_log_inherits_from_its_parent(api: httpx.Client, by: str) -> None:
    parent = reference()
    root = search_log(api, session_reference_id=reference(), reference_id=parent)
    session_id = root["session_id"]
    under: Json = {"parent_id": root["id"]} if by == "id" else {"parent_reference_id": parent}
    chat, completion, tool = moderator(api, **under), assistant(api, **under), search_log(api, **under)
    nested = search_log(api, parent_id=completion["data"][0]["id"])
    batch = [_step(reference_id=(first := reference()), **under), _step(parent_reference_id=first), _step()]
    array = ok(api.post("/logs", json=batch))
    with api.stream("POST", "/chat", json={**_CHAT, **under, "stream": True}) as streamed:
        events = [json.loads(line.removeprefix("data: ")) for line in streamed.iter_lines() if line]
    assert {event["session_id"] for event in events} == {session_id}
    for answer in (chat, completion, tool, nested, *array[:2]):
        assert answer["session_id"] == session_id
    assert array[2]["session_id"] is None
    made = [chat["data"][0]["id"], completion["data"][0]["id"], tool["id"], nested["id"], events[0]["data"][0]["id"]]
    for log_id in (*made, *(one["id"] for one in array[:2])):
        assert ok(api.get(f"/logs/{log_id}"))["session_id"] == session_id
    late = search_log(api, parent_reference_id=(unknown := reference()))
    assert late["session_id"] is None, "a parent may come later; nobody knows where it will be"
    search_log(api, reference_id=unknown, session_id=session_id)
    assert ok(api.get(f"/logs/{late['id']}"))["session_id"] == session_id


_CHAT: Json = {"project": "tracing", "model_config": {"model": "gpt-4"}, "messages": []}


def _step(**fields: object) -> Json:
    return {"project": "tracing", "config": {"type": "tool", "name": "step"}, **fields}


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_117_an_output_can_be_sent_after_its_log(
    sdk: str, api: httpx.Client, request: pytest.FixtureRequest
) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    session, log = reference(), reference()
    created = search_log(api, session_reference_id=session, reference_id=log, output=None)
    step = search_log(api, session_reference_id=session, parent_reference_id=log, output="a step")
    assert ok(api.get(f"/logs/{created['id']}"))["output"] is None
    assert list_sessions(api, step["project_id"])[created["session_id"]]["last_output"] == "a step"
    assert scripts.run("logs/update_by_ref.py", reference_id=log, output="Sweden, at last") == "Sweden, at last"
    assert ok(api.get(f"/logs/{created['id']}"))["output"] == "Sweden, at last"
    assert list_sessions(api, step["project_id"])[created["session_id"]]["last_output"] == "Sweden, at last"


def test_row_118_error_and_duration_can_be_updated_by_reference_and_by_id(api: httpx.Client) -> None:
    log = reference()
    created = search_log(api, reference_id=log, output=None)
    answer = ok(api.patch("/logs", params={"reference_id": log}, json={"error": "quota used up"}))
    assert (answer["error"], answer["output"], answer["duration"]) == ("quota used up", None, None)
    answer = ok(api.patch(f"/logs/{created['id']}", json={"duration": 1.5, "output": "late"}))
    assert (answer["error"], answer["output"], answer["duration"]) == ("quota used up", "late", 1.5)
    assert ok(api.get(f"/logs/{created['id']}")) == answer
    missing = api.patch("/logs", params={"reference_id": reference()}, json={"output": "x"})
    assert missing.status_code == 404
    assert missing.json()["detail"]["type"] == "not_found_error"


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_119_a_session_id_can_be_sent_in_place_of_the_reference(
    sdk: str, api: httpx.Client, request: pytest.FixtureRequest
) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    session_id = scripts.run("logs/create_session.py")
    created = search_log(api, session_id=session_id)
    assert created["session_id"] == session_id
    assert ok(api.get(f"/sessions/{session_id}"))["datapoints_count"] == 1
    body: Json = {
        "project": "sessions_example_google",
        "config": {"type": "tool", "name": "x"},
        "session_id": session_id,
        "session_reference_id": reference(),
    }
    both = api.post("/logs", json=body)
    assert both.status_code == 422
    assert "session_reference_id" in both.text
    assert ok(api.get(f"/sessions/{session_id}"))["datapoints_count"] == 1


def test_row_120_a_key_is_needed_and_must_be_right(stack: Stack) -> None:
    for headers in ({}, {"X-API-KEY": "hl_wrong"}, {"Authorization": f"Bearer {stack.api_key}"}):
        refused = httpx.post(f"{stack.url}/logs", headers=headers, json={})
        assert refused.status_code == 401
        assert refused.json()["detail"]["type"] == "authentication_error"
        assert refused.json()["detail"]["code"] == 401


def test_row_120_a_key_made_by_the_organisation_works_until_it_is_revoked(api: httpx.Client, stack: Stack) -> None:
    made = ok(api.post(f"{stack.base_url}/api/keys", json={"name": reference()}), 201)
    with httpx.Client(base_url=stack.url, headers={"X-API-KEY": made["api_key"]}) as mine:
        search_log(mine)
        assert api.delete(f"{stack.base_url}/api/keys/{made['id']}").status_code == 204
        refused = mine.post("/logs", json={})
        assert refused.status_code == 401
    keys = {key["id"]: key for key in ok(api.get(f"{stack.base_url}/api/keys"))}
    assert keys[made["id"]]["revoked_at"] is not None
    assert made["api_key"] not in str(keys)


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_121_the_script_of_the_sessions_guide_runs_with_the_local_model(
    sdk: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    report = tmp_path / "report.json"
    monkeypatch.setenv("EVERLOOP_EXAMPLE_REPORT", str(report))
    scripts.run_example("sessions.py")
    flat, nested = json.loads(report.read_text())
    steps = ["sessions_example_assistant", "sessions_example_google", "sessions_example_moderator"]
    assert (flat["count"], flat["projects"]) == (3, steps)
    assert len(flat["tree"]["roots"]) == 3
    assert (nested["count"], nested["projects"]) == (4, sorted([*steps, "sessions_example_entrypoint"]))
    (root,) = nested["tree"]["roots"]
    assert len(root["children"]) == 3
    assert flat["id"] != nested["id"]
    assert flat["last_output"]
    assert nested["last_output"]


def test_row_123_a_project_is_found_by_name_and_by_id(api: httpx.Client, openai: FakeOpenAI) -> None:
    name = f"row-123-{reference()}"
    by_name = moderator(api, project=name)
    project_id = by_name["project_id"]
    assert moderator(api, project=None, project_id=project_id)["project_id"] == project_id
    assert moderator(api, project=name, project_id=project_id)["project_id"] == project_id
    assert search_log(api, project=name)["project_id"] == project_id
    assert search_log(api, project=None, project_id=project_id)["project_id"] == project_id
    assert assistant(api, project=name)["project_id"] == project_id
    assert assistant(api, project=None, project_id=project_id)["project_id"] == project_id
    config_id = by_name["data"][0]["model_config_id"]
    for place in ({"project": name}, {"project_id": project_id}):
        common = {**place, "inputs": {"user_request": "x"}, "messages": []}
        for path, extra in (("/chat-model-config", {"model_config_id": config_id}), ("/chat-deployed", {})):
            assert ok(api.post(path, json=common | extra))["project_id"] == project_id
    assert len(openai.requests) == 9
    unknown = api.post("/logs", json={"project_id": "pr_doesnotexist", "config": {"type": "tool", "name": "x"}})
    assert unknown.status_code == 404
