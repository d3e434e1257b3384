"""Whose key goes where."""

from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import SecretStr

from services.generation.models.request import ModelRequest
from services.generation.providers.credentials import Credentials
from services.generation.providers.requests import Providers
from services.generation.store import CredentialStore
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.contracts.principal import Principal
from shared.encryption import SecretBox
from shared.errors import Invalid
from shared.mongo import connect, initiate_replica_set
from shared.settings import DatabaseSettings
from tests.audit_outbox import as_outbox
from tests.integration.generation.stack import new_organisation
from tests.integration.servers import SECRET, Mongo, running

SECRET_BOX = SecretBox(SecretStr(SECRET))
ADA = Principal(kind="member", email="ada@example.org")
THEIRS = {"openai_azure_endpoint": "https://elsewhere.azure-api.net"}


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongo]:
    server = Mongo(tmp_path_factory.mktemp("mongo"))
    with running(server):
        yield server


@pytest.fixture
async def credentials(mongo: Mongo) -> AsyncIterator[Credentials]:
    await initiate_replica_set(f"mongodb://127.0.0.1:{mongo.port}", f"127.0.0.1:{mongo.port}")
    database = connect(DatabaseSettings(mongo_url=mongo.url), "generation")
    yield Credentials(CredentialStore(database), SECRET_BOX, Providers({}, None).find_key_address, as_outbox())
    database.client.close()


async def test_the_organisations_key_is_not_for_an_endpoint_of_the_caller(credentials: Credentials) -> None:
    tm = new_organisation()
    await credentials.set_key(tm, "openai_azure", SECRET_BOX.encrypt({"key": "kept-key-of-the-organisation"}), ADA)
    await credentials.set_key(tm, "openai", SECRET_BOX.encrypt({"key": "sk-kept"}), ADA)
    assert await credentials.get_keys(tm, SECRET_BOX.encrypt(THEIRS)) == {**THEIRS, "openai": "sk-kept"}
    both = THEIRS | {"openai_azure": "their-own"}
    assert (await credentials.get_keys(tm, SECRET_BOX.encrypt(both)))["openai_azure"] == "their-own"
    assert (await credentials.get_keys(tm, None))["openai_azure"] == "kept-key-of-the-organisation"
    config = ModelConfig(provider="openai_azure", model="gpt-4o", endpoint="chat")
    request = ModelRequest(config, messages=[ChatMessage(role="user", content="hi")])
    with pytest.raises(Invalid, match=r"needs provider_api_keys\.openai_azure"):
        Providers({"AZURE_OPENAI_API_KEY": "of-the-installation"}, None).prepare(
            request, await credentials.get_keys(tm, SECRET_BOX.encrypt(THEIRS))
        )
