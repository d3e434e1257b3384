"""Admits requests by who sends them, before anything of their body is read: authentication within the rate limits."""

from typing import Protocol

from starlette.requests import Request

from services.gateway.authentication.authenticator import Authenticator
from services.gateway.requests.rate_limits import RateLimits
from services.gateway.server.client_address import TrustedProxies
from shared.contracts.principal import Principal
from shared.errors import Unauthenticated


class _Limits(Protocol):
    """What this room needs of `app.state.gateway`."""

    @property
    def authenticator(self) -> Authenticator: ...
    @property
    def rate_limits(self) -> RateLimits: ...
    @property
    def trusted_proxies(self) -> TrustedProxies: ...


async def admit_caller(request: Request, gateway: _Limits) -> Principal:
    """Return the principal who sent `request`, counted by its key or session.

    A key or session that is not known to be valid counts for the address before authz is asked about it, and is taken
    back if it is valid: so guesses are bounded however many are sent at once, and valid ones do not count twice. Whom
    this gateway knows is not kept out by the failures of others at the same address.
    Raises RateLimited, and the errors of `Authenticator.authenticate_request`.
    """
    limits, address = gateway.rate_limits, gateway.trusted_proxies.client_address(request)
    try:
        credential_hash = gateway.authenticator.credential_hash(request)
    except Unauthenticated:
        await limits.count_unauthenticated(address)
        raise
    if limits.is_known(credential_hash):
        try:
            caller = await gateway.authenticator.authenticate_request(request)
        except Unauthenticated:
            limits.forget(credential_hash)
            await limits.count_unauthenticated(address)
            raise
    else:
        window = await limits.count_unauthenticated(address)
        caller = await gateway.authenticator.authenticate_request(request)
        limits.give_back(address, window)
    await limits.count_valid(credential_hash)
    return caller


async def admit_anybody(request: Request, gateway: _Limits) -> None:
    """Count a request of an operation for which nobody is authenticated. Raises RateLimited."""
    await gateway.rate_limits.count_unauthenticated(gateway.trusted_proxies.client_address(request))
