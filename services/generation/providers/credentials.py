"""Provider keys of organisations: stored encrypted, decrypted and cached for the calls that need them."""

from services.generation.providers.requests import AZURE_ENDPOINT_KEY, AZURE_KEY
from services.generation.store import CredentialStore
from shared.cache import Cache
from shared.contracts.generation.credentials import ProviderKey
from shared.encryption import SecretBox
from shared.errors import NotFound

_FRESH_SECONDS = 30.0
"""A change is announced; this is for the case that the announcement was lost."""
_STALE_SECONDS = 900.0
"""How long cached keys are used while the database is away."""
_TAIL_CHARACTERS = 4
_MIN_KEY_CHARACTERS = 12
"""No tail is shown of a shorter key: it would give away too much of it."""


class Credentials:
    """The credential store behind a cache. Keys are in clear only here and in the call that uses them."""

    def __init__(self, store: CredentialStore, secret_box: SecretBox) -> None:
        self._store = store
        self._secret_box = secret_box
        self._keys: Cache[str, dict[str, str]] = Cache(
            tags=lambda organisation, _: [organisation],
            max_entries=5_000,
            fresh_seconds=_FRESH_SECONDS,
            stale_seconds=_STALE_SECONDS,
        )

    async def get_keys(self, organisation: str, sealed: str | None) -> dict[str, str]:
        """Return the keys for a call by name: the call's own (`sealed`, encrypted) win over the organisation's.

        If the call names its own Azure endpoint, the organisation's Azure key is left out: it is not for that endpoint.
        Raises Internal if `sealed` was encrypted with another secret.
        """
        stored = await self._keys.get(organisation, lambda: self._decrypt_stored(organisation))
        if not sealed:
            return stored
        own = self._secret_box.decrypt(sealed)
        if AZURE_ENDPOINT_KEY in own:
            stored = {name: key for name, key in stored.items() if name != AZURE_KEY}
        return stored | own

    async def _decrypt_stored(self, organisation: str) -> dict[str, str]:
        keys: dict[str, str] = {}
        for sealed in await self._store.list_encrypted(organisation):
            keys |= self._secret_box.decrypt(sealed)
        return keys

    async def list_keys(self, organisation: str) -> list[ProviderKey]:
        """Return name and tail of each stored key, by name; never the key."""
        return await self._store.list_all(organisation)

    async def set_key(self, organisation: str, name: str, sealed: str, by: str) -> ProviderKey:
        """Store the key in `sealed` (`{"key": …}`, encrypted), encrypted again under its name."""
        key = self._secret_box.decrypt(sealed)["key"]
        tail = key[-_TAIL_CHARACTERS:] if len(key) >= _MIN_KEY_CHARACTERS else ""
        stored = await self._store.upsert(organisation, name, tail, self._secret_box.encrypt({name: key}), by)
        self.invalidate(organisation)
        return stored

    async def delete_key(self, organisation: str, name: str) -> None:
        """Delete the stored key. Raises NotFound if there is none of that name."""
        if not await self._store.delete(organisation, name):
            raise NotFound(f"The organisation keeps no key {name!r}.")
        self.invalidate(organisation)

    def invalidate(self, organisation: str | None = None) -> None:
        """Drop the cached keys of an organisation; of all if None."""
        if organisation is None:
            self._keys.clear()
        else:
            self._keys.invalidate(organisation)
