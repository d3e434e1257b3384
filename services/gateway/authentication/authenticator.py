"""Authenticates requests: principals come from authz and are cached until `AccessChanged` drops them.

Calls that take long are cut off when their key is revoked or their session ends: those in hand are authenticated again.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from starlette.requests import HTTPConnection

from services.gateway.authentication.api_keys import KEY_HEADER, get_api_key
from services.gateway.authentication.session_cookie import SessionCookie, csrf_token
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.cache import Cache
from shared.contracts.access.authentication import AccessChanged, Authenticate, AuthenticateSession
from shared.contracts.principal import Principal
from shared.errors import Problem, Unauthenticated
from shared.permissions import check_valid_now

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
"""After authz could not be asked about a caller."""


class _Credential(NamedTuple):
    """What a caller is known by."""

    hash: str
    """sha256 of the secret of the key or session, hex."""
    is_session: bool


class Authenticator:
    """Principals by the hash of the secret of their API key or session, as authz knows them."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        self._principals: Cache[str, Principal] = Cache(
            tags=lambda _, principal: [principal.organisation],
            max_entries=10_000,
            fresh_seconds=settings.caller_fresh_seconds,
            stale_seconds=settings.caller_stale_seconds,
        )
        self._fresh_seconds = settings.caller_fresh_seconds
        self.cookie = SessionCookie(settings.public_url)
        self._in_hand: dict[_Credential, set[asyncio.Timeout]] = {}
        """The calls that `until_revoked` watches, as what ends each."""
        self._access_changed = asyncio.Event()

    async def subscribe(self) -> None:
        """Subscribe to `AccessChanged`; a reconnect drops everything, since events may be missed while disconnected."""
        await self._bus.subscribe(AccessChanged, self._on_access_changed)

    async def authenticate_request(self, request: HTTPConnection) -> Principal:
        """Return the principal who sent `request`, by its API key, else by its session; it is determined once.

        Raises Unauthenticated if there is neither, or it is wrong, revoked or expired; Denied if another site sent it.
        """
        caller: Principal | None = getattr(request.state, "caller", None)
        if caller is None:
            caller = request.state.caller = await self._authenticate(self._get_credential(request))
        return caller

    def credential_hash(self, request: HTTPConnection) -> str:
        """Return the sha256, hex, of the secret that `request` has, valid or not.

        Raises Unauthenticated if it has none; Denied if another site sent it.
        """
        return self._get_credential(request).hash

    def session_hash(self, request: HTTPConnection) -> str | None:
        """Return the hash of the session that sent `request` to a route that is open to all; None if it has none.

        Whether it goes on is not known. Raises Denied if another site sent the request.
        """
        secret = self.cookie.read(request.headers)
        if secret is None:
            return None
        self.cookie.check_request(request.scope["method"], request.headers, secret)
        return hash_secret(secret)

    def csrf_token(self, request: HTTPConnection) -> str | None:
        """Return the token that other requests of the session of `request` need; None if it has no session."""
        secret = self.cookie.read(request.headers)
        return csrf_token(secret) if secret else None

    def _get_credential(self, request: HTTPConnection) -> _Credential:
        credential: _Credential | None = getattr(request.state, "credential", None)
        if credential is None:
            credential = request.state.credential = self._read_credential(request)
        return credential

    def _read_credential(self, request: HTTPConnection) -> _Credential:
        if key := get_api_key(request.headers):
            return _Credential(hash_secret(key), is_session=False)
        if secret := self.cookie.read(request.headers):
            self.cookie.check_request(request.scope["method"], request.headers, secret)
            return _Credential(hash_secret(secret), is_session=True)
        raise Unauthenticated(f"No API key: send it in the header {KEY_HEADER}, before the body.")

    async def _authenticate(self, credential: _Credential) -> Principal:
        principal = await self._principals.get(credential.hash, lambda: self._bus.request(_query(credential)))
        check_valid_now(principal)
        return principal

    @asynccontextmanager
    async def until_revoked(self, request: HTTPConnection) -> AsyncIterator[None]:
        """Run the block, which may take long, for an authenticated request.

        When its key or session becomes invalid, the block is cancelled and Unauthenticated raised.
        """
        credential: _Credential = request.state.credential
        calls = self._in_hand.setdefault(credential, set())
        try:
            async with asyncio.timeout(None) as call:  # `cut_off_revoked` makes it expire
                calls.add(call)
                yield
        except TimeoutError:
            if not call.expired():
                raise
            what = "Your session ended" if credential.is_session else "The API key was revoked"
            raise Unauthenticated(f"{what} during the call.") from None
        finally:
            calls.discard(call)
            if not calls:
                self._in_hand.pop(credential, None)

    async def cut_off_revoked(self) -> None:
        """Authenticate the callers of the calls in hand after each change of access, and end the calls of invalid ones.

        Runs until cancelled. Events may be missed, so it is also done as often as principals are refreshed.
        """
        wait_seconds = self._fresh_seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._access_changed.wait()
            self._access_changed.clear()
            known = [await self._is_known(credential) for credential in list(self._in_hand)]
            wait_seconds = self._fresh_seconds if all(known) else min(_RETRY_SECONDS, self._fresh_seconds)

    async def _is_known(self, credential: _Credential) -> bool:
        """End the calls of a key or session that is not valid; return whether that is known."""
        try:
            await self._authenticate(credential)
        except Unauthenticated:
            for call in self._in_hand.get(credential, ()):
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


def hash_secret(secret: str) -> str:
    """Return the sha256 of a secret, hex, by which authz knows it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _query(credential: _Credential) -> Authenticate | AuthenticateSession:
    if credential.is_session:
        return AuthenticateSession(session_hash=credential.hash)
    return Authenticate(key_hash=credential.hash)
