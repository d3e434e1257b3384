"""The provider keys an organisation keeps, opened and remembered for the calls that need them."""

from services.generation.providers.requests import AZURE, AZURE_ENDPOINT
from services.generation.store import CredentialStore
from shared.cache import Cache
from shared.contracts.credentials import ProviderKey
from shared.encryption import SecretBox
from shared.errors import NotFound

_FRESH_SECONDS = 30.0
"""A change is heard of; this is for the case that it was not."""
_STALE_SECONDS = 900.0
_SHOWN = 4
_LONG_ENOUGH = 12
"""A shorter key would be half told by its tail."""


class Credentials:
    """The store behind a memory. Keys are in clear only here and in the call that uses them."""

    def __init__(self, store: CredentialStore, secret_box: SecretBox) -> None:
        self._store = store
        self._secret_box = secret_box
        self._keys: Cache[str, dict[str, str]] = Cache(
            most=5_000, fresh_seconds=_FRESH_SECONDS, stale_seconds=_STALE_SECONDS
        )

    async def of(self, organisation: str, sealed: str | None) -> dict[str, str]:
        """Keys of a call by name: what came with it, encrypted, goes before what the organisation keeps.

        A caller may name an endpoint of its own; the organisation's key is not for it.
        """
        kept = await self._keys.get(organisation, lambda: self._open(organisation))
        if not sealed:
            return kept
        own = self._secret_box.decrypt(sealed)
        if AZURE_ENDPOINT in own:
            kept = {name: key for name, key in kept.items() if name != AZURE}
        return kept | own

    async def _open(self, organisation: str) -> dict[str, str]:
        keys: dict[str, str] = {}
        for sealed in await self._store.sealed(organisation):
            keys |= self._secret_box.decrypt(sealed)
        return keys

    async def listed(self, organisation: str) -> list[ProviderKey]:
        """What people may see."""
        return await self._store.all(organisation)

    async def set(self, organisation: str, name: str, sealed: str, by: str) -> ProviderKey:
        """Keep the key in `sealed` (`{"key": …}`), encrypted once more."""
        key = self._secret_box.decrypt(sealed)["key"]
        tail = key[-_SHOWN:] if len(key) >= _LONG_ENOUGH else ""
        kept = await self._store.put(organisation, name, tail, self._secret_box.encrypt({name: key}), by)
        self.forget(organisation)
        return kept

    async def delete(self, organisation: str, name: str) -> None:
        """Errors: NotFound."""
        if not await self._store.delete(organisation, name):
            raise NotFound(f"The organisation keeps no key {name!r}.")
        self.forget(organisation)

    def forget(self, organisation: str | None = None) -> None:
        """Ask the store again; None: for everybody."""
        self._keys.forget(lambda key, _: organisation in (None, key))
