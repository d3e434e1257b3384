"""Guards against server-side request forgery: which hosts may be called, and at which addresses.

A name is looked up once, every address it has is checked, and the connection goes to a checked address: a second answer
of the name server (DNS rebinding) changes nothing (docs/decisions/0010).
"""

import ipaddress

from services.generation.http.allowed_hosts import Address, AllowedHosts
from services.generation.http.name_lookup import NameLookup
from shared.errors import Invalid, UpstreamFailed

_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        # IPv4, https://www.iana.org/assignments/iana-ipv4-special-registry (2024-11)
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        # Azure's platform channel: https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
        "168.63.129.16/32",
        # IPv6, https://www.iana.org/assignments/iana-ipv6-special-registry (2024-11): within 2000::/3
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")
"""All that was ever handed out (https://www.iana.org/assignments/ipv6-unicast-address-assignments, 2024-11)."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""


def is_public(address: Address) -> bool:
    """Return whether an address is on the public internet; an IPv6 address with an embedded IPv4 one counts as that."""
    address = _embedded_ipv4(address)
    if address.version == 6 and address not in _IPV6_UNICAST:
        return False
    return not any(address in network for network in _NEVER_PUBLIC)


def _embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address in an IPv4-mapped or NAT64 address; any other address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class SsrfGuard:
    """Resolves hosts, and refuses those that may not be called.

    `allow` lists what may be called besides the public internet (`allowed_hosts.py`). Raises ValueError if it cannot be
    parsed.
    """

    def __init__(self, allow: str, lookup: NameLookup) -> None:
        self._allowed = AllowedHosts(allow)
        self._lookup = lookup

    async def resolve(self, organisation: str, host: str, port: int) -> list[str]:
        """Return every address of the host, all of which may be called.

        Raises Invalid if one of them may not, UpstreamFailed if there is none or the name server does not answer,
        Unavailable if too many look-ups hang.
        """
        try:
            addresses = await self._lookup.resolve(organisation, host.removesuffix("."), port)
            is_listed = self._allowed.includes_host(host, port)
        except (OSError, ValueError) as error:
            raise UpstreamFailed(f"There is no address for the host {host!r}.") from error
        if not is_listed and not all(self._is_allowed(address) for address in addresses):
            raise Invalid(
                f"Everloop does not call {host!r}: it is not on the public internet. "
                "Who runs this installation can allow it with EVERLOOP_OUTBOUND_ALLOW."
            )
        return addresses

    def _is_allowed(self, text: str) -> bool:
        address = _embedded_ipv4(ipaddress.ip_address(text.partition("%")[0]))
        return is_public(address) or self._allowed.includes_address(address)
