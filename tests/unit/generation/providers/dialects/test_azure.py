"""Azure's endpoints and keys: the installation's, or the caller's."""

from typing import Any

import pytest

from services.generation.models.request import ModelRequest
from services.generation.providers.requests import Providers
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Unauthenticated

OWN = {"AZURE_OPENAI_ENDPOINT": "https://own.openai.azure.com/", "AZURE_OPENAI_API_KEY": "own-key"}
THEIRS = "https://theirs.openai.azure.com"


def call(environment: dict[str, str], keys: dict[str, str] | None = None, model: str = "gpt-4o", **fields: Any) -> Any:
    config = ModelConfig(provider="openai_azure", model=model, endpoint="chat")
    request = ModelRequest(config, **fields or {"messages": [ChatMessage(role="user", content="hi")]})
    return Providers(environment, None).prepare(request, keys or {})[0]


def test_the_installations_endpoint_and_key() -> None:
    prepared = call(OWN)
    assert prepared.url == (
        "https://own.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    )
    assert prepared.headers == {"api-key": "own-key"}
    assert prepared.title == "Azure OpenAI"


def test_the_version_can_be_set() -> None:
    prepared = call(
        OWN | {"AZURE_OPENAI_API_VERSION": "2025-04-01-preview"}, model="gpt-35-turbo-instruct", prompt="once"
    )
    assert prepared.url.endswith("/gpt-35-turbo-instruct/completions?api-version=2025-04-01-preview")


def test_a_callers_endpoint_with_the_callers_key() -> None:
    prepared = call(OWN, {"openai_azure": "their-key", "openai_azure_endpoint": THEIRS})
    assert prepared.url.startswith(THEIRS + "/openai/deployments/")
    assert prepared.headers == {"api-key": "their-key"}


def test_a_callers_key_at_the_installations_endpoint() -> None:
    prepared = call(OWN, {"openai_azure": "their-key"})
    assert prepared.url.startswith("https://own.")
    assert prepared.headers == {"api-key": "their-key"}


def test_the_installations_key_is_never_sent_to_a_callers_endpoint() -> None:
    with pytest.raises(Invalid, match=r"provider_api_keys\.openai_azure,"):
        call(OWN, {"openai_azure_endpoint": THEIRS})


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://theirs.openai.azure.com",
        "https://theirs.openai.azure.com.evil.example",
        "https://evil.example/.openai.azure.com",
        "https://evil.example?.openai.azure.com",
        "https://user@theirs.openai.azure.com",
        "https://theirs.openai.azure.com:8443",
        "https://theirs.openai.azure.com:99999999",
        "https://theirs.openai.azure.com/?x=1",
        "https://openai.azure.com",
        "https://127.0.0.1",
        "https://169.254.169.254/latest",
        "https://[::1",
        "file:///etc/passwd",
        "nonsense",
        "https://proxy.example",
    ],
)
def test_a_callers_endpoint_must_be_an_azure_host(endpoint: str) -> None:
    with pytest.raises(Invalid, match=r"provider_api_keys\.openai_azure_endpoint .* EVERLOOP_AZURE_HOSTS"):
        call(OWN, {"openai_azure": "k", "openai_azure_endpoint": endpoint})


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://x.openai.azure.com/",
        "https://X.OpenAI.Azure.com",
        "https://x.openai.azure.com:443",
        "https://x.cognitiveservices.azure.com",
        "https://x.services.ai.azure.com",
        "https://x.azure-api.net/team",
        "https://proxy.example/azure",
    ],
)
def test_azure_hosts_and_allowed_hosts_are_accepted(endpoint: str) -> None:
    keys = {"openai_azure": "k", "openai_azure_endpoint": endpoint}
    prepared = call({"EVERLOOP_AZURE_HOSTS": "gateway.example, Proxy.example"}, keys)
    assert prepared.url.startswith(endpoint.rstrip("/") + "/openai/deployments/gpt-4o/")


def test_without_an_endpoint() -> None:
    with pytest.raises(Invalid, match=r"AZURE_OPENAI_ENDPOINT .* provider_api_keys\.openai_azure_endpoint"):
        call({"AZURE_OPENAI_API_KEY": "k"})


def test_without_a_key() -> None:
    with pytest.raises(Unauthenticated, match=r"provider_api_keys\.openai_azure .* AZURE_OPENAI_API_KEY"):
        call({"AZURE_OPENAI_ENDPOINT": THEIRS})


@pytest.mark.parametrize("model", ["..", "a/b", "a?b", "a#b", "", "a b"])
def test_a_deployment_name_cannot_change_the_url(model: str) -> None:
    with pytest.raises(Invalid, match="deployment"):
        call(OWN, model=model)


def test_a_deployment_named_after_a_reasoning_model() -> None:
    assert "temperature" not in call(OWN, model="team-o3-mini").body
    assert "temperature" in call(OWN, model="team-gpt-4o").body


def test_a_completion_of_a_chat_deployment() -> None:
    assert call(OWN, model="anything", prompt="once").body["messages"] == [{"role": "user", "content": "once"}]
