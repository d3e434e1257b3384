"""Authenticates requests by API key: principals come from authz and are cached until `AccessChanged` drops them.

Calls that take long are cut off when their key is revoked: the keys of those in hand are authenticated again.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from services.gateway.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.access.authentication import AccessChanged, Authenticate
from shared.contracts.principal import Principal
from shared.errors import Problem, Unauthenticated
from shared.permissions import check_valid_now

logger = logging.getLogger(__name__)

KEY_HEADER = "X-API-KEY"
_MAX_KEY_LENGTH = 200
"""Characters; keys have 43 to 60. No longer one is looked up."""
_RETRY_SECONDS = 1.0
"""After authz could not be asked about a key."""
_API_KEY = re.compile(rb"\bhl_[A-Za-z0-9]{48}\b")
"""As authz makes them; one that an operator chose may look otherwise."""
_RAW_KEY_HEADER = KEY_HEADER.lower().encode()


def get_api_key(headers: Headers) -> str | None:
    """Return the API key of a request; None if it has none.

    Raises Unauthenticated for two different ones: a proxy or a log before this server might have taken the other.
    """
    keys = [value for name, value in headers.raw if name == _RAW_KEY_HEADER]
    if not keys:
        return None
    if len(set(keys)) > 1:
        raise Unauthenticated(f"The header {KEY_HEADER} is there {len(keys)} times with different keys: send one.")
    for name, value in headers.raw:
        if b"hl_" in value and value != keys[0] and any(other != keys[0] for other in _API_KEY.findall(value)):
            raise Unauthenticated(
                f"The header {name.decode('latin-1')} holds another API key than {KEY_HEADER}: "
                f"send one, in {KEY_HEADER} alone."
            )
    return keys[0].decode("latin-1")


class Authenticator:
    """Principals by the hash of their API key, as authz knows them."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        self._principals: Cache[str, Principal] = Cache(
            tags=lambda _, principal: [principal.organisation],
            max_entries=10_000,
            fresh_seconds=settings.caller_fresh_seconds,
            stale_seconds=settings.caller_stale_seconds,
        )
        self._fresh_seconds = settings.caller_fresh_seconds
        self._in_hand: dict[str, set[asyncio.Timeout]] = {}
        """The calls that `until_revoked` watches, as what ends each, by the hash of their key."""
        self._access_changed = asyncio.Event()

    async def subscribe(self) -> None:
        """Subscribe to `AccessChanged`; a reconnect drops everything, since events may be missed while disconnected."""
        await self._bus.subscribe(AccessChanged, self._on_access_changed)

    async def authenticate(self, key: str | None) -> Principal:
        """Return the principal behind `key`. Raises Unauthenticated if it is missing, wrong or revoked."""
        if not key:
            raise Unauthenticated(f"No API key: send it in the header {KEY_HEADER}, before the body.")
        if len(key) > _MAX_KEY_LENGTH:
            raise Unauthenticated("This API key is not valid.")
        return await self._authenticate(_hash(key))

    async def authenticate_request(self, request: HTTPConnection) -> Principal:
        """Return the principal who sent `request`; it is determined once. Raises Unauthenticated."""
        caller: Principal | None = getattr(request.state, "caller", None)
        if caller is None:
            caller = request.state.caller = await self.authenticate(get_api_key(request.headers))
        return caller

    async def _authenticate(self, key_hash: str) -> Principal:
        principal = await self._principals.get(key_hash, lambda: self._bus.request(Authenticate(key_hash=key_hash)))
        check_valid_now(principal)
        return principal

    @asynccontextmanager
    async def until_revoked(self, key: str) -> AsyncIterator[None]:
        """Run the block, which may take long; when `key` becomes invalid it is cancelled and Unauthenticated raised."""
        key_hash = _hash(key)
        calls = self._in_hand.setdefault(key_hash, set())
        try:
            async with asyncio.timeout(None) as call:  # `cut_off_revoked` makes it expire
                calls.add(call)
                yield
        except TimeoutError:
            if not call.expired():
                raise
            raise Unauthenticated("The API key was revoked during the call.") from None
        finally:
            calls.discard(call)
            if not calls:
                self._in_hand.pop(key_hash, None)

    async def cut_off_revoked(self) -> None:
        """Authenticate the keys of the calls in hand after each change of access, and end the calls of invalid ones.

        Runs until cancelled. Events may be missed, so it is also done as often as principals are refreshed.
        """
        wait_seconds = self._fresh_seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._access_changed.wait()
            self._access_changed.clear()
            known = [await self._is_known(key_hash) for key_hash in list(self._in_hand)]
            wait_seconds = self._fresh_seconds if all(known) else min(_RETRY_SECONDS, self._fresh_seconds)

    async def _is_known(self, key_hash: str) -> bool:
        """End the calls of a key that is not valid; return whether that is known."""
        try:
            await self._authenticate(key_hash)
        except Unauthenticated:
            for call in self._in_hand.get(key_hash, ()):
                if not call.expired():
                    call.reschedule(asyncio.get_running_loop().time())
        except Problem as problem:
            logger.info("a key in use could not be authenticated again: %s", problem.message)
            return False
        return True

    def _on_access_changed(self, event: AccessChanged | None) -> None:
        """Drop the principals the event concerns; None, after a reconnect, concerns all."""
        if event is None:
            self._principals.clear()
        else:
            self._principals.invalidate(event.organisation)
        self._access_changed.set()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
