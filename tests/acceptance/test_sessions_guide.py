"""Seed rows 104-112: the sessions guide's three steps (behaviour.md §23 P)."""

import httpx
import pytest

from tests.calls import assistant, list_sessions, moderator, ok, reference, search_log
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_104_a_chat_takes_an_inline_config(
    sdk: str, openai: FakeOpenAI, api: httpx.Client, request: pytest.FixtureRequest
) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    openai.reply(content="Yes")
    answer = scripts.run("logs/sessions_guide_step.py", step="moderator")
    assert answer["output"] == "Yes"
    assert [(message["role"], message["content"]) for message in openai.last.body["messages"]] == [
        ("user", "Which country won Eurovision 2023?"),
        ("system", "You are a moderator of user requests."),
        ("system", "Is the request safe? Answer yes or no."),
    ]
    log = ok(api.get(f"/logs/{answer['id']}"))
    assert log["project"] == "sessions_example_moderator"
    assert log["project_id"] == answer["project_id"]
    assert log["output"] == "Yes"
    assert log["config"]["type"] == "model"
    assert log["config"]["id"] == answer["model_config_id"]
    assert log["inputs"] == {"user_request": "Which country won Eurovision 2023?"}


def test_row_105_max_tokens_and_temperature_are_honoured(api: httpx.Client, openai: FakeOpenAI) -> None:
    moderator(api)
    assert openai.last.body["max_tokens"] == 1
    assert openai.last.body["temperature"] == 0


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_106_a_tool_call_can_be_logged(sdk: str, api: httpx.Client, request: pytest.FixtureRequest) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    created = scripts.run("logs/sessions_guide_step.py", step="search")
    log = ok(api.get(f"/logs/{created['id']}"))
    assert log["project"] == "sessions_example_google"
    assert log["inputs"] == {"question": "Which country won Eurovision 2023?"}
    assert log["output"] == "Sweden"
    config = log["config"]
    assert config["type"] == "tool"
    assert config["name"] == "Google Search"
    assert config["description"] == "Searches the web."
    assert config["source_code"] == "def search(question): ...\n"


def test_row_107_another_tool_source_is_another_version(api: httpx.Client) -> None:
    project = f"row-107-{reference()}"

    def version(source_code: str) -> str:
        created = search_log(api, project=project, source_code=source_code)
        return str(ok(api.get(f"/logs/{created['id']}"))["config"]["id"])

    first = version("def search(q): return 1")
    assert version("def search(q): return 1") == first
    assert version("def search(q): return 2") != first


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_108_a_completion_takes_a_prompt_template(
    sdk: str, openai: FakeOpenAI, api: httpx.Client, request: pytest.FixtureRequest
) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    openai.reply(content="Sweden won.")
    answer = scripts.run("logs/sessions_guide_step.py", step="assistant")
    assert answer["output"] == "Sweden won."
    assert openai.last.path == "/v1/completions"
    assert openai.last.body["prompt"] == "Question: Which country won?\nSearch result: Sweden\nAnswer:\n"
    assert ok(api.get(f"/logs/{answer['id']}"))["project"] == "sessions_example_assistant"


def test_row_109_a_completion_can_be_logged_instead_of_called(api: httpx.Client, openai: FakeOpenAI) -> None:
    openai.reply(content="Sweden.")
    called = assistant(api)
    config = {
        "model": "gpt-3.5-turbo-instruct",
        "temperature": 0,
        "prompt_template": "Question: {{question}}\nSearch result: {{google_answer}}\nAnswer:\n",
    }
    logged = ok(
        api.post(
            "/logs",
            json={
                "project": "sessions_example_assistant",
                "config": config,
                "inputs": {"question": "Which country won?", "google_answer": "Sweden"},
                "output": "Sweden.",
            },
        )
    )
    first, second = (ok(api.get(f"/logs/{each}")) for each in (called["data"][0]["id"], logged["id"]))
    for field in ("project_id", "config", "inputs", "output"):
        assert first[field] == second[field]


def test_row_110_a_log_without_a_session_has_none(api: httpx.Client) -> None:
    chat, tool, completion = moderator(api), search_log(api), assistant(api)
    assert len({chat["project_id"], tool["project_id"], completion["project_id"]}) == 3
    for identifier in (chat["data"][0]["id"], tool["id"], completion["data"][0]["id"]):
        assert ok(api.get(f"/logs/{identifier}"))["session_id"] is None
    assert chat["session_id"] is tool["session_id"] is completion["session_id"] is None


def test_row_111_logs_with_one_session_reference_are_in_one_session(api: httpx.Client, openai: FakeOpenAI) -> None:
    session = reference()
    openai.reply(content="Yes")
    openai.reply(content="Sweden won.")
    answers = [
        moderator(api, session_reference_id=session),
        search_log(api, session_reference_id=session),
        assistant(api, session_reference_id=session),
    ]
    (session_id,) = {answer["session_id"] for answer in answers}
    for answer in answers:
        session_in_list = list_sessions(api, answer["project_id"])[session_id]
        assert session_in_list["reference_id"] == session
        assert session_in_list["datapoints_count"] == 3
        assert {(project["name"], project["type"]) for project in session_in_list["projects"]} == {
            ("sessions_example_moderator", "prompt"),
            ("sessions_example_google", "tool"),
            ("sessions_example_assistant", "prompt"),
        }
        assert session_in_list["first_inputs"] == {"user_request": "Which country won Eurovision 2023?"}
        assert session_in_list["last_output"] == "Sweden won."


def test_row_112_a_reference_is_reusable_across_processes(sdk735: SdkScripts) -> None:
    session = reference()
    first = sdk735.run("logs/sessions_guide_step.py", step="search", session_reference_id=session)
    second = sdk735.run("logs/sessions_guide_step.py", step="search", session_reference_id=session)
    other = sdk735.run("logs/sessions_guide_step.py", step="search", session_reference_id=reference())
    assert first["session_id"] == second["session_id"]
    assert other["session_id"] != first["session_id"]
