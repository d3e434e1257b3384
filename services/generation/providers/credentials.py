"""Provider keys of organisations: stored encrypted, decrypted and cached for the calls that need them.

A key is stored with the address it was given for, and is for no other (`secret_destinations.py`).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from services.generation.http.secret_destinations import StoredKey, moved_secret
from services.generation.providers.requests import AZURE_ENDPOINT_KEY, AZURE_KEY
from services.generation.store import CredentialStore
from shared.audit import AuditOutbox, audit_entry
from shared.cache import Cache
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.audit_actions import AuditAction
from shared.contracts.generation.credentials import ProviderKey
from shared.contracts.principal import Principal
from shared.encryption import SecretBox
from shared.errors import Internal, Invalid, NotFound

FindAddress = Callable[[str, Mapping[str, str]], str | None]
"""Returns the address that the key of a name is sent to, given the keys of its organisation."""
_ADDRESS = "given for"
"""Beside the key in what is encrypted; no name of a provider has a space."""
_FRESH_SECONDS = 30.0
"""A change is announced; this is for the case that the announcement was lost."""
_STALE_SECONDS = 900.0
"""How long cached keys are used while the database is away."""
_TAIL_CHARACTERS = 4
_MIN_KEY_CHARACTERS = 12
"""No tail is shown of a shorter key: it would give away too much of it."""


class Credentials:
    """The credential store behind a cache. Keys are in clear only here and in the call that uses them."""

    def __init__(
        self, store: CredentialStore, secret_box: SecretBox, find_address: FindAddress, audit: AuditOutbox
    ) -> None:
        self._audit = audit
        self._find_address = find_address
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
            content = self._secret_box.decrypt(sealed)
            address = content.pop(_ADDRESS, None)
            keys |= {name: StoredKey(key, address) for name, key in content.items()}
        return keys

    async def bind_stored(self) -> None:
        """Store the present address with each key that was stored without one, by an earlier version.

        What cannot be decrypted was logged by `secret_rotation.py`, and stays as it is, as does a key whose endpoint is
        none of Azure's.
        """
        async for credential_id, sealed in self._store.ciphertexts():
            organisation, _, name = credential_id.partition("/")
            try:
                content = self._secret_box.decrypt(sealed)
                if _ADDRESS in content or name == AZURE_ENDPOINT_KEY:
                    continue
                keys = await self._decrypt_stored(organisation) if name == AZURE_KEY else {}
                new = self._encrypt(name, content[name], keys)
            except (Internal, Invalid):
                continue
            await self._store.replace_ciphertext(credential_id, sealed, new)

    def _encrypt(self, name: str, key: str, keys: Mapping[str, str]) -> str:
        """Return the key with its present address, encrypted; `keys` are those of its organisation."""
        address = self._address(name, keys)
        return self._secret_box.encrypt({name: key} | ({_ADDRESS: address} if address else {}))

    async def list_keys(self, organisation: str) -> list[ProviderKey]:
        """Return name and tail of each stored key, by name; never the key."""
        return await self._store.list_all(organisation)

    async def set_key(self, organisation: str, name: str, sealed: str, principal: Principal | None) -> ProviderKey:
        """Store the key in `sealed` (`{"key": …}`, encrypted), encrypted again under its name, with its address.

        Raises Invalid for an Azure endpoint to which the stored Azure key would go although it was not given for it.
        """
        key, by = self._secret_box.decrypt(sealed)["key"], (principal and principal.email) or ""
        keys = await self._decrypt_stored(organisation)
        if name == AZURE_ENDPOINT_KEY:
            await self._move_azure_key(organisation, keys, {**keys, name: key}, by)
        tail = key[-_TAIL_CHARACTERS:] if len(key) >= _MIN_KEY_CHARACTERS else ""
        if stored := await self._find_same(organisation, name, key, keys, by):
            return stored
        new = ProviderKey(name=name, tail=tail, changed_at=datetime.now(UTC), changed_by=by)
        encrypted = self._encrypt(name, key, keys)
        await self._audit.record(
            lambda session: self._store.upsert(organisation, new, encrypted, session),
            lambda _: _entry("provider_key.set", principal, organisation, name),
        )
        self.invalidate(organisation)
        return new

    async def _find_same(
        self, organisation: str, name: str, key: str, keys: Mapping[str, str], by: str
    ) -> ProviderKey | None:
        """Return the stored key if it is this one, given by the same person for the same address: a repeat."""
        current = keys.get(name)
        if not isinstance(current, StoredKey) or current != key or current.address != self._address(name, keys):
            return None
        stored = {one.name: one for one in await self._store.list_all(organisation)}.get(name)
        return stored if stored is not None and stored.changed_by == by else None

    def _address(self, name: str, keys: Mapping[str, str]) -> str | None:
        """Return the address that a key is for at present; an endpoint is for none."""
        return None if name == AZURE_ENDPOINT_KEY else self._find_address(name, keys)

    async def _move_azure_key(
        self, organisation: str, before: Mapping[str, str], after: Mapping[str, str], by: str
    ) -> None:
        """Raise Invalid if the stored Azure key was given for another endpoint than that of `after`, or the endpoint is
        none of Azure's. One that was given before any endpoint is for the first that the same person sets."""
        address, key = self._find_address(AZURE_KEY, after), before.get(AZURE_KEY)
        if not isinstance(key, StoredKey) or address == (given_for := key.address):
            return
        stored = {one.name: one for one in await self._store.list_all(organisation)}[AZURE_KEY]
        if given_for is not None or self._find_address(AZURE_KEY, before) is not None or stored.changed_by != by:
            raise moved_secret(
                AZURE_ENDPOINT_KEY,
                AZURE_KEY,
                f"delete it first (DELETE /api/provider-keys/{AZURE_KEY}), set the endpoint, and give the key anew",
            )
        # It stays the same key, as it was given by the same person: the endpoint has the entry in the audit log.
        bound = stored.model_copy(update={"changed_at": datetime.now(UTC)})
        await self._store.upsert(organisation, bound, self._encrypt(AZURE_KEY, key, after))

    async def delete_key(self, organisation: str, name: str, principal: Principal | None) -> None:
        """Delete the stored key. Raises NotFound if there is none of that name."""
        deleted = await self._audit.record(
            lambda session: self._store.delete(organisation, name, session),
            lambda _: _entry("provider_key.deleted", principal, organisation, name),
        )
        if not deleted:
            raise NotFound(f"The organisation keeps no key {name!r}.")
        self.invalidate(organisation)

    def invalidate(self, organisation: str | None = None) -> None:
        """Drop the cached keys of an organisation; of all if None."""
        if organisation is None:
            self._keys.clear()
        else:
            self._keys.invalidate(organisation)


def _entry(action: AuditAction, principal: Principal | None, organisation: str, name: str) -> AuditEntry:
    """Return the entry of the audit log; it has nothing of the key but its name."""
    return audit_entry(action, principal, organisation, AuditObject(kind="provider_key", id=name, name=name))
