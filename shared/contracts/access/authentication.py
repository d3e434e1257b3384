"""Messages of `authz`: who is calling, that this may have changed, and how many requests a caller may send."""

import ipaddress
from typing import ClassVar, Literal

from pydantic import Field

from shared.contracts.message import Event, SystemCommand, SystemQuery
from shared.contracts.principal import Principal
from shared.contracts.value import Value

_IPV6_NETWORK_BITS = 64
"""What one customer of a provider usually has: the addresses in it count as one."""


class Authenticate(SystemQuery[Principal]):
    """Return the principal of an API key. Raises Unauthenticated if the key is unknown or revoked."""

    subject: ClassVar[str] = "authz.authenticate"

    key_hash: str
    """sha256 of the key, hex: the key itself stays in the gateway."""


class AuthenticateSession(SystemQuery[Principal]):
    """Return the signed-in member of a browser session. Raises Unauthenticated if it is unknown, ended or expired."""

    subject: ClassVar[str] = "authz.authenticate_session"

    session_hash: str
    """sha256 of the session's secret, hex."""


class RequestLease(Value):
    """HTTP requests that the gateway may accept without asking again."""

    granted: int = Field(ge=0)
    """Less than asked for: there are no more in this window."""
    seconds_left: float = Field(ge=0)
    """Until the window ends, and what is left of the lease is void."""


class LeaseRequests(SystemCommand[RequestLease]):
    """Count HTTP requests of a caller ahead, in a window of a minute that all gateways share.

    A repeat counts again: what is leased twice is not used, and the limit still holds.
    """

    subject: ClassVar[str] = "authz.lease_requests"

    scope: Literal["key", "address"]
    """What is counted: an API key or browser session, or the requests of an address that have neither."""
    name: str = Field(pattern=r"^[0-9a-f]{32}$")
    """The beginning of a sha256, hex: of the secret, or of the network of the address."""
    limit: int = Field(ge=1)
    """Requests in a minute."""
    count: int = Field(ge=1)


class AccessChanged(Event):
    """A key, a session, a role or a membership changed: cached principals of the organisation are void."""

    noun: ClassVar[str] = "access"
    past_participle: ClassVar[str] = "changed"

    what: str
    """`key created`, `key revoked`, `role changed`, `member joined`, `member removed`, `session ended`, `organisation
    changed`. More may be added: whatever it is, the same is void."""


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or the network of an IPv6 one; else `unknown`."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False).network_address)
    return str(parsed)
