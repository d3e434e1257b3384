"""Provider, base URL, key and number of requests for a config."""

from typing import Any, get_args

import pytest

from services.gateway.schemas.config_responses import PublicProvider
from services.generation.models.request import ModelRequest
from services.generation.providers.registry import PROVIDER_SPECS, compatible_specs
from services.generation.providers.requests import LOCAL_MODEL, Providers
from services.generation.settings import CompatibleProvider
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Unauthenticated

ENVIRONMENT = {"OPENAI_API_KEY": "sk-own", "GROQ_API_KEY": "", "OPENAI_BASE_URL": "http://proxy/v1/"}
PROVIDERS = Providers(ENVIRONMENT, "http://127.0.0.1:9/v1")


def chat(**fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"model": "gpt-4", "endpoint": "chat"} | fields)
    return ModelRequest(config, messages=[ChatMessage(role="user", content="hi")])


def completion(model: str, **fields: Any) -> ModelRequest:
    return ModelRequest(ModelConfig(model=model), **{"prompt": "once"} | fields)


def test_every_spec_is_a_provider_of_the_contract() -> None:
    assert set(get_args(PublicProvider)) - set(PROVIDER_SPECS) <= {
        "anthropic",
        "bedrock",
        "cohere",
        "google",
    }
    assert all(name == row.name for name, row in PROVIDER_SPECS.items())


def test_base_url_and_key_come_from_the_environment() -> None:
    (call,) = PROVIDERS.prepare(chat(), {})
    assert call.url == "http://proxy/v1/chat/completions"
    assert call.key == "sk-own"
    assert "sk-own" not in repr(call)


def test_a_key_of_the_request_wins() -> None:
    (call,) = PROVIDERS.prepare(chat(), {"openai": "sk-theirs", "groq": "other"})
    assert call.key == "sk-theirs"


def test_a_missing_key_names_both_ways_to_give_one() -> None:
    with pytest.raises(Unauthenticated) as caught:
        PROVIDERS.prepare(chat(provider="groq", model="llama"), {"openai": "sk-1"})
    assert caught.value.origin == "Groq"
    assert "provider_api_keys.groq" in caught.value.message
    assert "GROQ_API_KEY" in caught.value.message


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("smollm2-135m-instuct", "did you mean 'smollm2-135m-instruct'?"),
        (
            "claude-opus-4-5",
            "no model 'claude-opus-4-5' of OpenAI: if it is another provider's, name that as provider.",
        ),
        ("gpt-4o", "where Everloop runs."),
    ],
    ids=["misspelt", "another provider's", "known"],
)
def test_a_missing_key_for_an_unknown_model_says_what_may_be_meant(model: str, hint: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        Providers({}, None).prepare(chat(model=model), {})
    assert caught.value.message.endswith(hint)


def test_the_local_model_is_sent_no_key() -> None:
    (call,) = PROVIDERS.prepare(chat(model=LOCAL_MODEL), {"openai": "sk-theirs"})
    assert (call.url, call.key) == ("http://127.0.0.1:9/v1/chat/completions", None)
    with pytest.raises(Invalid, match="not running"):
        Providers({}, None).prepare(chat(model=LOCAL_MODEL), {})


@pytest.mark.parametrize("provider", ["langchain", "ai21", "nobody"])
def test_other_providers_are_refused_by_name(provider: str) -> None:
    with pytest.raises(Invalid, match=provider):
        PROVIDERS.prepare(chat(provider=provider), {})


@pytest.mark.parametrize(
    ("request_", "calls", "n"),
    [
        (chat(), 1, 3),
        (chat(provider="mock"), 1, 3),
        (chat(provider="groq"), 3, 1),
        (chat(model=LOCAL_MODEL), 3, 1),
    ],
)
def test_samples_share_a_request_where_the_provider_supports_n(request_: ModelRequest, calls: int, n: int) -> None:
    keys = {"groq": "gsk"}
    prepared = PROVIDERS.prepare(_with(request_, samples=3), keys)
    assert (len(prepared), prepared[0].body["n"], prepared[0].request.samples) == (calls, n, n)
    streamed = PROVIDERS.prepare(_with(request_, samples=3, stream=True), keys)
    assert (len(streamed), streamed[0].body["n"]) == (3, 1)


def _with(request: ModelRequest, **fields: Any) -> ModelRequest:
    return ModelRequest(**{**vars(request), **fields})


@pytest.mark.parametrize(
    ("model", "chats"),
    [
        ("gpt-4", True),
        ("gpt-4o-mini", True),
        ("gpt-3.5-turbo", True),
        ("gpt-3.5-turbo-16k-0613", True),
        ("ft:gpt-3.5-turbo:org::1", True),
        ("o1-mini", True),
        ("gpt-3.5-turbo-instruct", False),
        ("gpt-3.5-turbo-instruct-0914", False),
        ("text-davinci-003", False),
        ("babbage-002", False),
        (LOCAL_MODEL, False),
    ],
)
def test_a_completion_goes_to_a_chat_model_as_one_user_message(model: str, chats: bool) -> None:
    (call,) = PROVIDERS.prepare(completion(model), {})
    assert call.url.endswith("/chat/completions") is chats
    if chats:
        assert call.body["messages"] == [{"role": "user", "content": "once"}]
    else:
        assert call.body["prompt"] == "once"


def test_a_suffix_is_refused_for_a_chat_model() -> None:
    with pytest.raises(Invalid, match="suffix"):
        PROVIDERS.prepare(completion("gpt-4", suffix="end"), {})


def test_reasoning_models_get_max_completion_tokens() -> None:
    (call,) = PROVIDERS.prepare(chat(model="o3-mini", max_tokens=9), {})
    assert call.body["max_completion_tokens"] == 9
    assert "max_tokens" not in call.body


@pytest.mark.parametrize(
    ("provider", "environment", "key"),
    [
        ("google", {"GEMINI_API_KEY": "a", "GOOGLE_API_KEY": "b"}, "a"),
        ("google", {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "b"}, "b"),
        ("cohere", {"COHERE_API_KEY": "a", "CO_API_KEY": "b"}, "a"),
        ("cohere", {"CO_API_KEY": "b"}, "b"),
    ],
)
def test_a_key_may_have_two_names(provider: str, environment: dict[str, str], key: str) -> None:
    (call,) = Providers(environment, None).prepare(chat(provider=provider, model="m"), {})
    assert call.key == key
    assert key in "".join(call.headers.values())


@pytest.mark.parametrize(("provider", "words"), [("google", "Google"), ("cohere", "Cohere")])
def test_images_in_a_system_message_are_refused(provider: str, words: str) -> None:
    request = chat(provider=provider, model="m")
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}
    system = ChatMessage.model_validate({"role": "system", "content": [image]})
    with pytest.raises(Invalid, match=f"{words} cannot do images in the system message"):
        PROVIDERS.prepare(_with(request, messages=[system, *(request.messages or ())]), {provider: "k"})


def test_logprobs_are_refused_for_cohere() -> None:
    with pytest.raises(Invalid, match="logprobs"):
        PROVIDERS.prepare(_with(chat(provider="cohere", model="m"), logprobs=2), {"cohere": "k"})


@pytest.mark.parametrize(("name", "port"), [("ollama", 11434), ("vllm", 8000), ("lmstudio", 1234)])
def test_a_self_hosted_server_needs_no_key(name: str, port: int) -> None:
    spec = PROVIDER_SPECS[name]
    variables = {spec.base_url_variable or "": spec.base_url}
    (call,) = Providers(variables, None).prepare(chat(provider=name), {})
    assert (call.url, call.key) == (f"http://127.0.0.1:{port}/v1/chat/completions", None)
    assert "Authorization" not in call.headers
    with_key = variables | {spec.key_variable or "": "k"}
    assert Providers(with_key, None).prepare(chat(provider=name), {})[0].key == "k"


def test_every_default_address_on_this_machine_is_called_only_where_it_is_turned_on() -> None:
    local = [spec for spec in PROVIDER_SPECS.values() if "127.0.0.1" in spec.base_url or "localhost" in spec.base_url]
    assert {spec.name for spec in local} == {"ollama", "vllm", "lmstudio"}
    for spec in local:
        variable = spec.base_url_variable or ""
        with pytest.raises(Invalid, match=f"not turned on .* set {variable} where Everloop runs"):
            Providers({}, None).prepare(chat(provider=spec.name), {})
        (call,) = Providers({variable: "http://gpu.example/v1"}, None).prepare(chat(provider=spec.name), {})
        assert call.url == "http://gpu.example/v1/chat/completions"


def test_every_base_url_and_key_can_be_set() -> None:
    for row in PROVIDER_SPECS.values():
        assert row.name == "mock" or (row.base_url_variable and row.key_variable), row.name
        assert row.find_base_url or row.base_url.startswith(("https://", "http://127.0.0.1:", "http://mock.")), row.name


class TestCompatible:
    """Providers added by `EVERLOOP_COMPATIBLE_PROVIDERS`."""

    def test_a_setting_adds_a_provider(self) -> None:
        rows = compatible_specs(
            {
                "llamacpp": CompatibleProvider(base_url="http://127.0.0.1:8080/v1/"),
                "house": CompatibleProvider(
                    base_url="https://llm.example/v1", title="House", key_variable="HOUSE", lacks=frozenset({"tools"})
                ),
            }
        )
        providers = Providers({"HOUSE": "secret"}, None, rows)
        (call,) = providers.prepare(chat(provider="llamacpp"), {})
        assert (call.url, call.key, call.title) == ("http://127.0.0.1:8080/v1/chat/completions", None, "llamacpp")
        (call,) = providers.prepare(chat(provider="house"), {})
        assert (call.key, call.title) == ("secret", "House")
        with pytest.raises(Invalid, match="House cannot do tools"):
            providers.prepare(chat(provider="house", tools=[{"name": "f"}]), {})
        with pytest.raises(Invalid, match=r"house, .*llamacpp"):
            providers.prepare(chat(provider="nobody"), {})
        with pytest.raises(Unauthenticated, match="HOUSE"):
            Providers({}, None, rows).prepare(chat(provider="house"), {})

    def test_a_taken_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'openai' is a provider already"):
            compatible_specs({"openai": CompatibleProvider(base_url="http://x/v1")})

    def test_an_unknown_feature_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'x' cannot lack 'tool'; .* tools, forced tools"):
            compatible_specs({"x": CompatibleProvider(base_url="http://x/v1", lacks=frozenset({"tool"}))})
