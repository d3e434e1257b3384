"""Provider keys: whose key a call gets, what is stored and shown of it, and when the cache is asked again."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from services.generation.providers.credentials import Credentials
from services.generation.providers.requests import Providers
from services.generation.store import CredentialStore
from shared.contracts.generation.credentials import ProviderKey
from shared.contracts.principal import Principal
from shared.encryption import SecretBox
from shared.errors import Internal, NotFound
from shared.mongo import Session
from tests.audit_outbox import as_outbox

SECRET_BOX = SecretBox(SecretStr("A" * 43 + "="))
OTHER_SECRET_BOX = SecretBox(SecretStr("B" * 42 + "A="))
ADA = "ada@example.org"


class StoredKeys(CredentialStore):
    """Keys in memory; counts how often they are read."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], tuple[ProviderKey, str]] = {}
        self.reads = 0

    async def list_all(self, organisation: str) -> list[ProviderKey]:
        return [key for (owner, _), (key, _) in sorted(self.documents.items()) if owner == organisation]

    async def list_encrypted(self, organisation: str) -> list[str]:
        self.reads += 1
        return [sealed for (owner, _), (_, sealed) in self.documents.items() if owner == organisation]

    async def upsert(
        self, organisation: str, key: ProviderKey, sealed: str, session: Session | None = None
    ) -> ProviderKey:
        assert session is None
        self.documents[organisation, key.name] = (key, sealed)
        return key

    async def ciphertexts(self) -> AsyncIterator[tuple[str, str]]:
        for (organisation, name), (_, sealed) in list(self.documents.items()):
            yield f"{organisation}/{name}", sealed

    async def replace_ciphertext(self, credential_id: str, old: str, new: str) -> bool:
        organisation, _, name = credential_id.partition("/")
        key, sealed = self.documents[organisation, name]
        assert sealed == old
        self.documents[organisation, name] = (key, new)
        return True

    async def delete(self, organisation: str, name: str, session: Session) -> bool:
        assert session is None
        return self.documents.pop((organisation, name), None) is not None


def person(email: str) -> Principal:
    return Principal(kind="member", email=email, organisation="tm_1")


@pytest.fixture
def store() -> StoredKeys:
    return StoredKeys()


@pytest.fixture
def credentials(store: StoredKeys) -> Credentials:
    return Credentials(store, SECRET_BOX, Providers({}, None).find_key_address, as_outbox())


async def keep(credentials: Credentials, name: str, key: str, organisation: str = "tm_1") -> ProviderKey:
    return await credentials.set_key(organisation, name, SECRET_BOX.encrypt({"key": key}), person(ADA))


class TestKeysOfACall:
    async def test_without_any_keys_there_are_none(self, credentials: Credentials) -> None:
        assert await credentials.get_keys("tm_1", None) == {}

    async def test_stored_keys_are_decrypted_by_name(self, credentials: Credentials) -> None:
        await keep(credentials, "openai", "sk-stored")
        await keep(credentials, "groq", "gsk-stored")
        assert await credentials.get_keys("tm_1", None) == {"openai": "sk-stored", "groq": "gsk-stored"}

    async def test_keys_of_another_organisation_are_not_used(self, credentials: Credentials) -> None:
        await keep(credentials, "openai", "sk-theirs", "tm_2")
        assert await credentials.get_keys("tm_1", None) == {}

    async def test_a_key_of_the_call_wins_over_the_stored_one(self, credentials: Credentials) -> None:
        await keep(credentials, "openai", "sk-stored")
        await keep(credentials, "groq", "gsk-stored")
        own = SECRET_BOX.encrypt({"openai": "sk-own", "anthropic": "sk-ant-own"})
        assert await credentials.get_keys("tm_1", own) == {
            "openai": "sk-own",
            "groq": "gsk-stored",
            "anthropic": "sk-ant-own",
        }

    async def test_a_key_of_one_call_is_not_kept_for_the_next(self, credentials: Credentials) -> None:
        await keep(credentials, "openai", "sk-stored")
        await credentials.get_keys("tm_1", SECRET_BOX.encrypt({"openai": "sk-own"}))
        assert await credentials.get_keys("tm_1", None) == {"openai": "sk-stored"}

    async def test_the_stored_azure_key_is_not_for_an_endpoint_of_the_call(self, credentials: Credentials) -> None:
        await keep(credentials, "openai_azure", "stored-azure-key")
        await keep(credentials, "openai", "sk-stored")
        endpoint = {"openai_azure_endpoint": "https://e.openai.azure.com"}
        assert await credentials.get_keys("tm_1", SECRET_BOX.encrypt(endpoint)) == endpoint | {"openai": "sk-stored"}
        both = endpoint | {"openai_azure": "own-azure-key"}
        assert await credentials.get_keys("tm_1", SECRET_BOX.encrypt(both)) == both | {"openai": "sk-stored"}

    async def test_the_stored_azure_key_is_for_the_stored_endpoint(self, credentials: Credentials) -> None:
        await keep(credentials, "openai_azure", "stored-azure-key")
        await keep(credentials, "openai_azure_endpoint", "https://e.openai.azure.com")
        assert (await credentials.get_keys("tm_1", SECRET_BOX.encrypt({"openai": "sk"})))[
            "openai_azure"
        ] == "stored-azure-key"

    async def test_keys_encrypted_with_another_secret_are_refused(self, credentials: Credentials) -> None:
        with pytest.raises(Internal, match="another EVERLOOP_SECRET"):
            await credentials.get_keys("tm_1", OTHER_SECRET_BOX.encrypt({"openai": "sk"}))


class TestStoring:
    async def test_a_key_is_stored_encrypted_under_its_name(self, store: StoredKeys, credentials: Credentials) -> None:
        await keep(credentials, "openai", "sk-0123456789")
        _, sealed = store.documents["tm_1", "openai"]
        assert "0123456789" not in sealed
        content = SECRET_BOX.decrypt(sealed)
        assert content == {"openai": "sk-0123456789", "given for": "https://api.openai.com:443/v1"}

    @pytest.mark.parametrize(
        ("key", "tail"), [("sk-012345678", "5678"), ("sk-01234567", ""), ("", "")], ids=["12", "11", "0 characters"]
    )
    async def test_the_tail_of_a_key_is_shown_if_it_is_long_enough(
        self, credentials: Credentials, key: str, tail: str
    ) -> None:
        stored = await keep(credentials, "openai", key)
        assert (stored.name, stored.tail, stored.changed_by) == ("openai", tail, ADA)

    async def test_keys_are_listed_by_name_without_the_key(self, credentials: Credentials) -> None:
        await keep(credentials, "openai", "sk-0123456789")
        await keep(credentials, "groq", "gsk-0123456789")
        keys = await credentials.list_keys("tm_1")
        assert [key.name for key in keys] == ["groq", "openai"]
        assert "0123456789" not in str(keys)
        assert await credentials.list_keys("tm_2") == []

    async def test_deleting_an_unknown_key_is_not_found(self, credentials: Credentials) -> None:
        await keep(credentials, "openai", "sk-stored", "tm_2")
        with pytest.raises(NotFound, match="no key 'openai'"):
            await credentials.delete_key("tm_1", "openai", person(ADA))


class TestCache:
    async def test_keys_are_read_once(self, store: StoredKeys, credentials: Credentials) -> None:
        for _ in range(3):
            await credentials.get_keys("tm_1", None)
        assert store.reads == 1

    async def test_a_changed_or_deleted_key_is_in_effect_at_once(self, credentials: Credentials) -> None:
        await keep(credentials, "openai", "sk-old")
        await credentials.get_keys("tm_1", None)
        await keep(credentials, "openai", "sk-new")
        assert await credentials.get_keys("tm_1", None) == {"openai": "sk-new"}
        await credentials.delete_key("tm_1", "openai", person(ADA))
        assert await credentials.get_keys("tm_1", None) == {}

    async def test_forgetting_one_organisation_keeps_the_others(
        self, store: StoredKeys, credentials: Credentials
    ) -> None:
        for organisation in ("tm_1", "tm_2"):
            await credentials.get_keys(organisation, None)
        credentials.invalidate("tm_1")
        await credentials.get_keys("tm_2", None)
        assert store.reads == 2
        await credentials.get_keys("tm_1", None)
        assert store.reads == 3

    async def test_forgetting_none_forgets_all(self, store: StoredKeys, credentials: Credentials) -> None:
        for _ in range(2):
            for organisation in ("tm_1", "tm_2"):
                await credentials.get_keys(organisation, None)
            credentials.invalidate()
        assert store.reads == 4
