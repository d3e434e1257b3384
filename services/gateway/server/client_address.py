"""The IP address that a request came from. A header says it only if a proxy set it that the operator trusts."""

import ipaddress
from collections.abc import Iterable

from starlette.requests import HTTPConnection

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_FORWARDED_FOR = b"x-forwarded-for"
_MAX_HOPS = 20
"""Addresses that are read from the end of the header."""


class TrustedProxies:
    """The proxies of `http_trusted_proxies`: addresses and CIDRs, comma-separated."""

    def __init__(self, text: str) -> None:
        """Raise ValueError if a part of the text is neither."""
        parts: Iterable[str] = (part.strip() for part in text.split(","))
        self._networks: list[_Network] = [ipaddress.ip_network(part, strict=False) for part in parts if part]

    def contains(self, address: str) -> bool:
        """Return whether an address is one of the proxies."""
        parsed = _parse(address)
        return parsed is not None and self._trusts(parsed)

    def client_address(self, connection: HTTPConnection) -> str | None:
        """Return the address of the caller: the peer's, or if the peer is a proxy the last one of X-Forwarded-For that
        is none; None if the peer has no IP address.

        A proxy appends the address that it was called from. So what stands before the first address that is no trusted
        proxy may be made up, and is not read; nor is anything before a part that is no address.
        """
        peer = _parse(connection.client.host) if connection.client else None
        if peer is None:
            return None
        for hop in self._hops_before(connection):
            if not self._trusts(peer):
                break
            previous = _parse(hop)
            if previous is None:
                break
            peer = previous
        return str(peer)

    def _hops_before(self, connection: HTTPConnection) -> list[str]:
        """Return what the proxies appended, the last one first."""
        if not self._networks:
            return []
        values = [value for name, value in connection.headers.raw if name == _FORWARDED_FOR]
        hops = b",".join(values).decode("latin-1").rsplit(",", _MAX_HOPS)
        return list(reversed(hops[-_MAX_HOPS:])) if values else []

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _parse(text: str) -> _Address | None:
    """Return an address, also one with a port (`1.2.3.4:80`, `[::1]:80`); of one of IPv4 in IPv6 that of IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
