"""Providers beside OpenAI through the whole stack: one of this installation's own, and one with another language."""

import json

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.fake_servers.server import FakeServer

LLAMA = {"provider": "replicate", "model": "llama70b-v2", "max_tokens": 50}


def _chat(provider: Json, **fields: object) -> Json:
    messages = [{"role": "user", "content": "Hi"}]
    return {"project": f"providers-{reference()}", "model_config": provider, "messages": messages, **fields}


def test_a_provider_added_by_the_installation_is_called_without_a_key(api: httpx.Client, openai: FakeOpenAI) -> None:
    answer = ok(api.post("/chat", json=_chat({"provider": "house", "model": "large"})))
    assert answer["data"][0]["output"] == "Fine, thank you."
    assert openai.last.body["model"] == "large"
    assert openai.last.key is None
    config = ok(api.get(f"/model-configs/{answer['data'][0]['model_config_id']}"))
    assert config.get("provider") is None, "clients know the names of their age only"


def test_a_feature_that_the_provider_lacks_is_refused_by_name(api: httpx.Client, openai: FakeOpenAI) -> None:
    refused = api.post("/chat", json=_chat({"provider": "house", "model": "large", "tools": [{"name": "f"}]}))
    assert refused.status_code == 422
    assert "house cannot do tools" in refused.json()["detail"]["message"]
    assert not openai.requests


def test_azure_endpoints_outside_the_allowed_hosts_are_refused(api: httpx.Client, openai: FakeOpenAI) -> None:
    keys = {"openai_azure": "k", "openai_azure_endpoint": openai.url}
    refused = api.post("/chat", json=_chat({"provider": "openai_azure", "model": "gpt-4o"}, provider_api_keys=keys))
    assert refused.status_code == 422
    assert "provider_api_keys.openai_azure_endpoint" in refused.json()["detail"]["message"]
    assert not openai.requests


@pytest.mark.parametrize("stream", [False, True])
def test_replicate_is_called_in_its_own_api(
    api: httpx.Client, fake_providers: dict[str, FakeServer], stream: bool
) -> None:
    predictions = fake_providers["replicate"]
    predictions.reply(content="It rains\nin Oslo.")
    response = api.post("/chat", json=_chat(LLAMA, stream=stream))
    if stream:
        events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
        assert "".join(event["data"][0]["output"] for event in events) == "It rains\nin Oslo."
        log_id = events[0]["data"][0]["id"]
    else:
        log_id = ok(response)["data"][0]["id"]
    assert predictions.requests[0].path == "/v1/models/meta/llama-2-70b-chat/predictions"
    assert predictions.requests[0].body["input"]["max_new_tokens"] == 50
    log = ok(api.get(f"/logs/{log_id}"))
    assert (log["output"], log["error"]) == ("It rains\nin Oslo.", None)
    assert log["provider_response"]["status"] == "succeeded"
    assert log["output_tokens"] > 0


def test_a_request_may_have_a_key_for_a_provider_that_the_contract_does_not_name(
    api: httpx.Client, fake_providers: dict[str, FakeServer]
) -> None:
    predictions = fake_providers["replicate"]
    ok(api.post("/chat", json=_chat(LLAMA, provider_api_keys={"replicate": "r8-of-the-caller"})))
    ok(api.post("/chat", json=_chat(LLAMA)))
    assert [each.key for each in predictions.requests] == ["r8-of-the-caller", "r8-from-the-environment"]
    refused = api.post("/chat", json=_chat(LLAMA, provider_api_keys={"replicate": "not\na key"}))
    assert refused.status_code == 422
    assert "another provider's name" in refused.json()["detail"]["message"]
