"""Seed rows 31-40: the snippet tool (behaviour.md §23 D)."""

import json
from typing import Any

import httpx
import pytest

from tests.calls import ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts
from tests.snippet_tools import (
    PASSAGES,
    chat,
    complete,
    console_url,
    create_snippet_tool,
    last_prompt,
    snippet,
    update_passages,
)

MOST_PAIRS = 10


def test_row_31_a_snippet_tool_is_saved_and_listed_with_its_signature(api: httpx.Client) -> None:
    tool = create_snippet_tool(api)
    assert tool["id"].startswith("oc_")
    assert tool["settings"]["pairs"] == snippet(PASSAGES)["pairs"]
    tools = {item["id"]: item for item in ok(api.get(console_url(api, "/tools")))}
    assert tools[tool["id"]] == tool
    assert tool["signature"] == f"{tool['name']}(key)"
    assert ok(api.get(console_url(api, f"/tools/{tool['id']}"))) == tool


def test_row_32_ten_pairs_are_accepted_and_the_eleventh_refused(api: httpx.Client) -> None:
    ten = {f"key {number}": "text" for number in range(MOST_PAIRS)}
    tool = create_snippet_tool(api, ten)
    eleven = snippet(ten | {"one more": "text"})
    made = api.post(console_url(api, "/tools"), json={"name": f"assistant_{reference()}", "settings": eleven})
    changed = api.patch(console_url(api, f"/tools/{tool['id']}"), json={"settings": {"pairs": eleven["pairs"]}})
    for refused in (made, changed):
        assert refused.status_code == 422
        assert "at most 10 items" in refused.text
        assert "pairs" in refused.text
    assert len(ok(api.get(console_url(api, f"/tools/{tool['id']}")))["settings"]["pairs"]) == MOST_PAIRS


def test_row_33_one_tool_resolves_in_two_projects(api: httpx.Client, openai: FakeOpenAI) -> None:
    tool = create_snippet_tool(api)
    for _ in range(2):
        ok(chat(api, f'{{{{ {tool["name"]}("grumpy") }}}}', project=f"rows-tools-{reference()}"))
        assert last_prompt(openai) == PASSAGES["grumpy"]
    assert len(openai.requests) == 2


def test_row_34_the_key_may_be_an_input(api: httpx.Client, openai: FakeOpenAI) -> None:
    template = f"Hello. {{{{ {create_snippet_tool(api)['name']}(key) }}}}"
    assert "['key']" in chat(api, template).json()["detail"]["message"]
    assert openai.requests == []
    answer = ok(chat(api, template, inputs={"key": "helpful"}))
    assert last_prompt(openai) == f"Hello. {PASSAGES['helpful']}"
    assert answer["data"][0]["inputs"] == {"key": "helpful"}


def test_row_35_a_literal_key_needs_no_input(api: httpx.Client, openai: FakeOpenAI) -> None:
    ok(chat(api, f'{{{{ {create_snippet_tool(api)["name"]}("helpful") }}}}', inputs={}))
    assert last_prompt(openai) == PASSAGES["helpful"]


def test_row_36_one_edit_changes_every_project_and_no_config(api: httpx.Client, openai: FakeOpenAI) -> None:
    tool = create_snippet_tool(api)
    template = f'{{{{ {tool["name"]}("helpful") }}}}'
    projects = [f"rows-tools-{reference()}" for _ in range(2)]
    before = [ok(chat(api, template, project=project)) for project in projects]
    for text in ("You help. {{ key }}", "You do not help.", ""):
        update_passages(api, tool, {"helpful": text})
        for project, old in zip(projects, before, strict=True):
            new = ok(chat(api, template, project=project))
            assert last_prompt(openai) == text
            assert new["data"][0]["model_config_id"] == old["data"][0]["model_config_id"]


def test_row_37_an_unknown_key_is_named(api: httpx.Client, openai: FakeOpenAI) -> None:
    tool = create_snippet_tool(api)
    template = f"{{{{ {tool['name']}(key) }}}} {{{{ tone }}}}"
    refused = chat(api, template, inputs={"key": "cheerful", "tone": "dry"})
    assert refused.status_code == 422
    detail = refused.json()["detail"]
    assert (detail["type"], detail["code"], detail["origin"]) == ("unprocessable_entity_error", 422, "Humanloop")
    assert repr(tool["name"]) in detail["message"]
    assert "'cheerful'" in detail["message"]
    missing = chat(api, template)
    assert missing.status_code == 422
    assert "['key', 'tone']" in missing.json()["detail"]["message"]
    assert openai.requests == []


def test_row_37_the_failure_is_a_log(api: httpx.Client) -> None:
    tool, project = create_snippet_tool(api), f"rows-tools-{reference()}"
    assert chat(api, f'{{{{ {tool["name"]}("no such") }}}}', project=project).status_code == 422
    registered = ok(api.post("/model-configs", json={"model": "gpt-4", "endpoint": "chat", "project": project}))
    (log,) = ok(api.get("/logs", params={"project_id": registered["project_id"]}))["records"]
    assert "'no such'" in log["error"]
    assert (log["output"], log["tools"]) == (None, [])


@pytest.mark.parametrize("kind", [chat, complete])
def test_row_38_the_tool_result_is_on_the_answer_and_the_log(api: httpx.Client, kind: Any) -> None:
    tool = create_snippet_tool(api)
    signature = f'{tool["name"]}("grumpy")'
    data = ok(kind(api, f"{{{{ {signature} }}}} {{{{{signature}}}}}", num_samples=2))["data"]
    expected = [{"id": tool["id"], "name": tool["name"], "signature": signature, "result": PASSAGES["grumpy"]}]
    assert [sample["tool_results"] for sample in data] == [expected, expected]
    for sample in data:
        assert ok(api.get(f"/logs/{sample['id']}"))["tools"] == expected


def test_row_38_the_tool_result_is_on_every_event_of_a_stream(api: httpx.Client, openai: FakeOpenAI) -> None:
    tool = create_snippet_tool(api)
    openai.reply(content="one two three")
    streamed = chat(api, f'{{{{ {tool["name"]}("grumpy") }}}}', stream=True)
    assert streamed.text.count(PASSAGES["grumpy"]) == streamed.text.count("data: {") > 3


def test_row_38_a_result_too_long_for_an_event_is_on_the_log(api: httpx.Client) -> None:
    passage = "word " * 10_000
    tool = create_snippet_tool(api, {"long": passage})
    streamed = chat(api, f'{{{{ {tool["name"]}("long") }}}}', stream=True)
    events = [json.loads(line.removeprefix("data: ")) for line in streamed.text.splitlines() if line]
    assert [sample["tool_results"] for event in events for sample in event["data"]] == [[]] * len(events)
    (log,) = ok(api.get(f"/logs/{events[0]['data'][0]['id']}"))["tools"]
    assert log["result"] == passage


def test_row_38_a_tool_can_be_run_without_a_prompt(api: httpx.Client, openai: FakeOpenAI) -> None:
    tool = create_snippet_tool(api)
    tried = ok(api.post(console_url(api, f"/tools/{tool['id']}/run"), json={"arguments": ["helpful"]}))
    signature = f'{tool["name"]}("helpful")'
    assert tried == {
        "id": tool["id"],
        "name": tool["name"],
        "signature": signature,
        "result": PASSAGES["helpful"],
    }
    assert openai.requests == []


def test_row_39_a_name_may_have_hyphens(api: httpx.Client, openai: FakeOpenAI) -> None:
    name = f"assistant-personalities-{reference()[:8]}"
    create_snippet_tool(api, {"grumpy-assistant": "Grr."}, name=name)
    ok(chat(api, f'{{{{ {name}("grumpy-assistant") }}}}'))
    assert last_prompt(openai) == "Grr."
    ok(chat(api, f"{{{{ {name}(which-one) }}}}", inputs={"which-one": "grumpy-assistant"}))
    assert last_prompt(openai) == "Grr."


@pytest.mark.parametrize("kind", [chat, complete])
def test_row_40_chats_and_completions_substitute_tool_results(api: httpx.Client, openai: FakeOpenAI, kind: Any) -> None:
    ok(kind(api, f"<{{{{ {create_snippet_tool(api)['name']}(key) }}}}>", inputs={"key": "helpful"}))
    assert last_prompt(openai) == f"<{PASSAGES['helpful']}>"


def test_rows_38_and_40_tool_results_through_the_sdk(api: httpx.Client, openai: FakeOpenAI, sdk735: SdkScripts) -> None:
    tool = create_snippet_tool(api)
    schema = {"kind": "json_schema", "description": "Rain", "parameters": {"type": "object", "properties": {}}}
    linked = ok(api.post(console_url(api, "/tools"), json={"name": f"rain_{reference()}", "settings": schema}), 201)
    done = sdk735.run(
        "generation/chat_and_completion_with_tools.py",
        project=f"rows-tools-{reference()}",
        template=f"{{{{ {tool['name']}(key) }}}}",
        inputs={"key": "helpful"},
        linked=linked["id"],
    )
    result = {"name": tool["name"], "signature": f"{tool['name']}(key)", "result": PASSAGES["helpful"]}
    assert (done["chat"], done["completion"]) == ([result], [result])
    assert done["tools"] == [{"id": linked["id"], "name": linked["name"], "source": "organization"}]
    assert openai.requests[0].body["tools"][0]["function"]["name"] == linked["name"]
