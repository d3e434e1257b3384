"""Seed rows 73 and 74: JSON mode and seed (behaviour.md §23 J). 70 and 71 are in `test_models.py`, 72 in
`test_projects.py`. How an editor draws the controls is the console's to test."""

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI

FORMATS: list[Json] = [
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "town", "schema": {"type": "object"}, "strict": True}},
]


@pytest.mark.parametrize("response_format", FORMATS, ids=["mode", "schema"])
def test_row_73_response_format_and_seed_are_shown_in_the_details_of_the_version(
    api: httpx.Client, response_format: Json
) -> None:
    """What an editor reads and writes: the version, alone and in the list of its project."""
    config = {"model": "gpt-4-1106-preview", "endpoint": "chat", "seed": 7, "response_format": response_format}
    made = ok(api.post("/model-configs", json={**config, "project": f"row-73-{reference()}"}))
    details = ok(api.get(f"/model-configs/{made['config']['id']}"))
    (config_in_list,) = ok(api.get(f"/projects/{made['project_id']}/configs"))
    for shown in (made["config"], details, config_in_list["config"]):
        assert shown["seed"] == 7
        given = {key: value for key, value in shown["response_format"].items() if value is not None}
        assert given == response_format


@pytest.mark.parametrize("provider", ["openai", "mock"])
def test_row_74_a_prompt_without_the_word_json_is_refused_by_the_provider(
    api: httpx.Client, openai: FakeOpenAI, provider: str
) -> None:
    sentence = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    if provider == "openai":
        openai.reply(status=400, error={"message": sentence, "type": "invalid_request_error", "param": "messages"})
    project = f"rows-{reference()}"
    config = {"provider": provider, "model": "gpt-4-1106-preview", "response_format": {"type": "json_object"}}
    response = api.post(
        "/chat", json={"project": project, "model_config": config, "messages": [{"role": "user", "content": "Hello"}]}
    )
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert (detail["message"], detail["origin"]) == (sentence, {"openai": "OpenAI", "mock": "Mock"}[provider])
    (log,) = ok(api.get("/logs", params={"project_id": _project(api, project)}))["records"]
    assert log["error"] == sentence


def _project(api: httpx.Client, name: str) -> str:
    """By registering once more, which makes nothing new."""
    given = {"project": name, "model": "gpt-4-1106-preview", "endpoint": "chat"}
    return str(ok(api.post("/model-configs", json=given))["project_id"])
