"""A key that an organisation keeps is sent only to the address it was given for, whoever changes the address."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from services.generation.http.secret_destinations import canonical_base_url
from services.generation.models.request import ModelRequest
from services.generation.providers.credentials import Credentials
from services.generation.providers.registry import compatible_specs
from services.generation.providers.requests import Providers
from services.generation.settings import CompatibleProvider
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.credentials import ProviderKey
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid
from tests.audit_outbox import as_outbox
from tests.unit.generation.providers.test_credentials import ADA, SECRET_BOX, StoredKeys, person

BOB = "bob@example.org"
ENDPOINT, OTHER = "https://one.openai.azure.com", "https://two.openai.azure.com"


def house(base_url: str) -> Providers:
    """An installation with one compatible provider."""
    provider = CompatibleProvider(base_url=base_url, key_variable="HOUSE_KEY")
    return Providers({}, None, compatible_specs({"house": provider}))


class Organisation:
    """The keys of an organisation, at an installation whose operator changes addresses."""

    def __init__(self) -> None:
        self.store = StoredKeys()

    def credentials(self, providers: Providers) -> Credentials:
        return Credentials(self.store, SECRET_BOX, providers.find_key_address, as_outbox())

    async def give(self, providers: Providers, name: str, key: str, by: str = ADA) -> None:
        await self.credentials(providers).set_key("tm_1", name, SECRET_BOX.encrypt({"key": key}), person(by))

    async def call(self, providers: Providers, provider: str, own: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Return URL and key of a call."""
        sealed = SECRET_BOX.encrypt(dict(own)) if own else None
        keys = await self.credentials(providers).get_keys("tm_1", sealed)
        model = "owner/m" if provider == "replicate" else "m"
        config = ModelConfig(provider=provider, model=model, endpoint="chat")
        request = ModelRequest(config, messages=[ChatMessage(role="user", content="hi")])
        (prepared,) = providers.prepare(request, keys)
        return prepared.url, prepared.key or ""


@pytest.fixture
def organisation() -> Organisation:
    return Organisation()


@pytest.mark.parametrize(
    ("provider", "before", "after"),
    [
        ("openai", Providers({}, None), Providers({"OPENAI_BASE_URL": "https://proxy.example/v1"}, None)),
        ("openai", Providers({}, None), Providers({"OPENAI_BASE_URL": "http://api.openai.com/v1"}, None)),
        ("openai", Providers({}, None), Providers({"OPENAI_BASE_URL": "https://api.openai.com/elsewhere"}, None)),
        ("bedrock", Providers({}, None), Providers({"AWS_REGION": "eu-west-1"}, None)),
        ("bedrock", Providers({"AWS_REGION": "eu-west-1"}, None), Providers({"AWS_DEFAULT_REGION": "us-west-2"}, None)),
        (
            "ollama",
            Providers({"OLLAMA_BASE_URL": "http://a/v1"}, None),
            Providers({"OLLAMA_BASE_URL": "http://b/v1"}, None),
        ),
        ("replicate", Providers({}, None), Providers({"REPLICATE_BASE_URL": "https://other.example/v1"}, None)),
        ("house", house("https://llm.example/v1/tenant-1"), house("https://llm.example/v1/tenant-2")),
        (
            "openai_azure",
            Providers({"AZURE_OPENAI_ENDPOINT": ENDPOINT}, None),
            Providers({"AZURE_OPENAI_ENDPOINT": OTHER}, None),
        ),
    ],
)
async def test_a_kept_key_is_not_sent_to_an_address_that_the_operator_changed(
    organisation: Organisation, provider: str, before: Providers, after: Providers
) -> None:
    await organisation.give(before, provider, "access:kept-secret-key")
    assert (await organisation.call(before, provider))[1] == "access:kept-secret-key"
    with pytest.raises(
        Invalid, match=rf"address of .* stored {provider}: .*PUT /api/provider-keys/{provider}"
    ) as error:
        await organisation.call(after, provider)
    assert "kept-secret" not in error.value.message
    assert (await organisation.call(after, provider, {provider: "own:key-of-the-call"}))[1] == "own:key-of-the-call"
    await organisation.give(after, provider, "access:given-anew-key")
    assert (await organisation.call(after, provider))[1] == "access:given-anew-key"


async def test_the_same_address_in_other_words_keeps_the_key(organisation: Organisation) -> None:
    await organisation.give(Providers({}, None), "openai", "sk-kept")
    same = Providers({"OPENAI_BASE_URL": "HTTPS://API.openai.com:443/v1/"}, None)
    assert (await organisation.call(same, "openai"))[1] == "sk-kept"


@pytest.mark.parametrize("by", [ADA, BOB])
async def test_an_endpoint_is_not_changed_under_a_kept_key(organisation: Organisation, by: str) -> None:
    providers = Providers({}, None)
    await organisation.give(providers, "openai_azure_endpoint", ENDPOINT)
    await organisation.give(providers, "openai_azure", "kept-azure-key")
    await organisation.give(providers, "openai_azure_endpoint", f"{ENDPOINT}/", by)
    with pytest.raises(Invalid, match=r"openai_azure_endpoint .* stored openai_azure: delete it first \(DELETE"):
        await organisation.give(providers, "openai_azure_endpoint", OTHER, by)
    url, key = await organisation.call(providers, "openai_azure")
    assert (url.startswith(ENDPOINT), key) == (True, "kept-azure-key")
    await organisation.credentials(providers).delete_key("tm_1", "openai_azure", person(ADA))
    await organisation.give(providers, "openai_azure_endpoint", OTHER, by)
    await organisation.give(providers, "openai_azure", "another-azure-key")
    url, key = await organisation.call(providers, "openai_azure")
    assert (url.startswith(OTHER), key) == (True, "another-azure-key")


async def test_an_endpoint_that_is_taken_away_leaves_the_key_behind(organisation: Organisation) -> None:
    providers = Providers({"AZURE_OPENAI_ENDPOINT": OTHER}, None)
    await organisation.give(providers, "openai_azure_endpoint", ENDPOINT)
    await organisation.give(providers, "openai_azure", "kept-azure-key")
    await organisation.credentials(providers).delete_key("tm_1", "openai_azure_endpoint", person(ADA))
    with pytest.raises(Invalid, match="stored openai_azure"):
        await organisation.call(providers, "openai_azure")


async def test_the_key_may_come_before_its_endpoint_if_one_person_gives_both(organisation: Organisation) -> None:
    providers = Providers({}, None)
    await organisation.give(providers, "openai_azure", "kept-azure-key", ADA)
    with pytest.raises(Invalid, match="stored openai_azure"):
        await organisation.give(providers, "openai_azure_endpoint", OTHER, BOB)
    await organisation.give(providers, "openai_azure_endpoint", ENDPOINT, ADA)
    assert (await organisation.call(providers, "openai_azure"))[1] == "kept-azure-key"
    with pytest.raises(Invalid, match="stored openai_azure"):
        await organisation.give(providers, "openai_azure_endpoint", OTHER, ADA)


@pytest.mark.parametrize(
    "endpoint", ["http://one.openai.azure.com", "https://evil.example", "https://a@b.azure.com", "x"]
)
async def test_an_endpoint_that_is_none_of_azures_is_not_kept(organisation: Organisation, endpoint: str) -> None:
    with pytest.raises(Invalid, match="openai_azure_endpoint must be the https address"):
        await organisation.give(Providers({}, None), "openai_azure_endpoint", endpoint)
    assert organisation.store.documents == {}


async def test_a_key_stored_without_an_address_is_for_the_present_one(organisation: Organisation) -> None:
    """Stored by an earlier version; the start of this one gives it the address it was used with."""
    before = Providers({}, None)
    key = ProviderKey(name="openai", tail="", changed_at=datetime.now(UTC), changed_by=ADA)
    await organisation.store.upsert("tm_1", key, SECRET_BOX.encrypt({"openai": "sk-old"}))
    await organisation.credentials(before).bind_stored()
    assert (await organisation.call(before, "openai"))[1] == "sk-old"
    with pytest.raises(Invalid, match="stored openai"):
        await organisation.call(Providers({"OPENAI_BASE_URL": "https://proxy.example/v1"}, None), "openai")


def test_addresses_are_compared_in_one_form() -> None:
    assert canonical_base_url("HTTPS://Api.Example/v1/") == canonical_base_url("https://api.example:443/v1?x=1")
    assert canonical_base_url("https://api.example/V1") != canonical_base_url("https://api.example/v1")
