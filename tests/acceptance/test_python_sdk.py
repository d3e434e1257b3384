"""Seed rows 56-60: the Python SDK (behaviour.md §23 H)."""

import time

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.conftest import LongCalls, SdkRun
from tests.fake_servers.openai import FakeOpenAI

CALLS = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_56_answers_are_models(sdk: str, request: pytest.FixtureRequest, openai: FakeOpenAI) -> None:
    openai.reply(content="Hello.")
    seen = request.getfixturevalue(sdk)("models.py", project=f"row-56-{reference()}")
    assert seen["config_id"].startswith("config_")
    assert seen["project_id"].startswith("pr_")
    assert (seen["output"], seen["message"], seen["usage"]) == ("Hello.", "Hello.", 17)
    assert seen["registered"] != "dict"
    assert seen["config"] != "dict"
    assert seen["log_config_id"] in (seen["config_id"], None)


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_57_the_raw_namespace(sdk: str, request: pytest.FixtureRequest, openai: FakeOpenAI) -> None:
    openai.reply(content="Hello.")
    seen = request.getfixturevalue(sdk)("raw.py", project=f"row-57-{reference()}")
    assert seen == {"status": 200, "content_type": "application/json", "output": "Hello."}


def test_row_58_the_surface_of_the_oldest_client(sdk518: SdkRun, openai: FakeOpenAI) -> None:
    openai.reply(content=None, tool_calls=CALLS)
    for content in ("Wet.", "Hi.", "Once upon a time"):
        openai.reply(content=content)
    seen = sdk518("dicts.py", project=f"row-58-{reference()}", session_reference_id=reference())
    assert seen["tool_calls"] == CALLS
    assert (seen["again"], seen["completion"]) == ("Wet.", "Hi.")
    assert (seen["datapoints"], seen["projects"]) == (4, 3)
    assert (seen["rating"], seen["rating_id"][:4], seen["nothing"]) == ("good", "ann_", None)
    assert seen["several"] == [["action", "copied"], ["rating", "good"]]
    assert "".join(text for _, text in seen["chunks"]).strip() == "Once upon a time"
    assert len({identifier for identifier, _ in seen["chunks"]}) == 1
    assert openai.requests[1].body["messages"][2] == {"role": "tool", "content": "wet", "tool_call_id": "call_1"}


@pytest.mark.last
def test_row_59_an_answer_after_320_s_reaches_a_client_with_default_settings(long_calls: LongCalls) -> None:
    assert long_calls.row_59.result()["output"] == "At last."
    assert long_calls.upstream.last.body["messages"] == [{"role": "user", "content": "Take your time"}]


@pytest.mark.last
def test_row_60_a_client_may_wait_longer_than_600_s(long_calls: LongCalls) -> None:
    assert long_calls.row_60.result()["output"] == "At long last."


def test_row_60_a_client_that_gives_up_leaves_a_log(sdk735: SdkRun, api: httpx.Client) -> None:
    project = f"row-60-{reference()}"
    slow = {"model": "mock", "provider": "mock", "other": {"delay_seconds": 30}}
    assert sdk735("slow_answer.py", project=project, model_config=slow, timeout=1)["error"] == "TimeoutError"
    deadline = time.monotonic() + 10
    logs: list[Json] = []
    while not logs and time.monotonic() < deadline:
        projects = ok(api.get("/projects", params={"filter": project}))["records"]
        logs = projects and ok(api.get("/logs", params={"project_id": projects[0]["id"]}))["records"]
        time.sleep(0.1)
    (log,) = logs
    assert log["output"] is None
    assert "left" in log["error"]
