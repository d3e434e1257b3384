"""What may be called besides the public internet: the entries of `EVERLOOP_OUTBOUND_ALLOW`."""

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
"""Names of RFC 1123 §2.1, and the underscores of container names."""
_ENTRY = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<host>[^\[\]:]+))(?::(?P<port>\d{1,5}))?", re.ASCII)


def normalise_host(host: str) -> str:
    """Return a host as hosts are compared: lower case, an international name in ASCII, an address of IPv6 in its short
    form without brackets, no dot at the end.

    Raises ValueError if an international name cannot be written in ASCII.
    """
    host = host.removeprefix("[").removesuffix("]")
    if not host.isascii():
        host = host.encode("idna").decode()
    host = host.lower().removesuffix(".")
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        return host


class AllowedHosts:
    """A comma-separated list of hosts and networks.

    A host (`api.internal`, `127.0.0.1`, `[::1]:8080`: with a port, that port alone) is allowed as it is written in a
    URL, a network (`10.1.0.0/16`) by the address that is connected to. Raises ValueError, which names the entry, for
    anything else.
    """

    def __init__(self, text: str) -> None:
        self._hosts: set[tuple[str, int | None]] = set()
        self._networks: list[Network] = []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            try:
                if "/" in entry:
                    self._networks.append(_parse_network(entry))
                else:
                    self._hosts.add(_parse_host(entry))
            except ValueError as error:
                raise ValueError(
                    f"EVERLOOP_OUTBOUND_ALLOW: {entry!r} is neither a host nor a network: {error}"
                ) from None

    def includes_host(self, host: str, port: int) -> bool:
        """Return whether a host is listed, however its entry and the host are written."""
        name = normalise_host(host)
        return (name, None) in self._hosts or (name, port) in self._hosts

    def includes_address(self, address: Address) -> bool:
        """Return whether an address is in a listed network."""
        return any(address in network for network in self._networks)


def _parse_network(entry: str) -> Network:
    if "://" in entry:
        raise ValueError("write the host alone, without https:// and path")
    address, _, length = entry.partition("/")
    return ipaddress.ip_network(f"{address.strip().removeprefix('[').removesuffix(']')}/{length.strip()}")


def _parse_host(entry: str) -> tuple[str, int | None]:
    if entry.count(":") > 1 and not entry.startswith("["):  # an address of IPv6 without brackets
        entry = f"[{entry}]"
    if not (match := _ENTRY.fullmatch(entry)):
        raise ValueError("write a name, an address, or a network like 10.1.0.0/16")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65_536:
        raise ValueError("a port is a number from 1 to 65535")
    if (bracketed := match["bracketed"]) is not None:
        return str(ipaddress.IPv6Address(bracketed)), port
    name = normalise_host(match["host"])
    if not _NAME.fullmatch(name):
        raise ValueError("write a name in full, without spaces and wildcards, or a network like 10.1.0.0/16")
    return name, port
