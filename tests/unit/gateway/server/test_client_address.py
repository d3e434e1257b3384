"""The address of a caller: the peer's, or what a trusted proxy says; nobody else can make one up."""

import pytest
from starlette.requests import HTTPConnection

from services.gateway.server.client_address import TrustedProxies

PROXIES = TrustedProxies("10.0.0.0/8, 2001:db8::1 , 192.0.2.53")
CALLER = "198.51.100.4"


def address(peer: str | None, *forwarded: str, proxies: TrustedProxies = PROXIES) -> str | None:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    client = None if peer is None else (peer, 4711)
    return proxies.client_address(HTTPConnection({"type": "http", "headers": headers, "client": client}))


def test_without_a_proxy_it_is_the_peers() -> None:
    assert address(CALLER) == CALLER
    assert address("2001:DB8:0::7") == "2001:db8::7"
    assert address("::ffff:198.51.100.4") == CALLER
    assert address("fe80::1%eth0") == "fe80::1"
    assert address("10.0.0.1") == "10.0.0.1"


@pytest.mark.parametrize("peer", [None, "", "testclient", "unix:", "/run/socket"])
def test_a_peer_without_an_ip_address_has_none(peer: str | None) -> None:
    assert address(peer, CALLER) is None


@pytest.mark.parametrize("forwarded", ["203.0.113.9", "10.0.0.1", "203.0.113.9, 10.0.0.1", "127.0.0.1", "::1"])
def test_what_an_untrusted_peer_sends_is_not_read(forwarded: str) -> None:
    assert address(CALLER, forwarded) == CALLER
    assert address("127.0.0.1", forwarded) == "127.0.0.1"
    assert address("10.0.0.1", forwarded, proxies=TrustedProxies("")) == "10.0.0.1"


@pytest.mark.parametrize(
    "forwarded",
    [
        (CALLER,),
        (f"  {CALLER}  ",),
        (f"203.0.113.9, {CALLER}",),  # the caller made the first one up
        (f"203.0.113.9, {CALLER}, 10.1.2.3",),  # by two proxies
        (f"203.0.113.9,{CALLER},10.1.2.3,192.0.2.53",),
        ("203.0.113.9", CALLER),  # a header for each
        (f"10.9.9.9, 203.0.113.9, {CALLER}, 10.1.2.3",),  # a made-up proxy before the caller
        (f"{CALLER}:61234",),
        (f"::ffff:{CALLER}",),
        (f"garbage, {CALLER}",),
    ],
)
def test_behind_a_proxy_it_is_the_last_address_that_is_no_proxy(forwarded: tuple[str, ...]) -> None:
    assert address("10.0.0.1", *forwarded) == CALLER


@pytest.mark.parametrize("text", ["[2001:db8::9]:443", "[2001:db8::9]", "2001:db8::9", "2001:db8::9%eth0"])
def test_addresses_of_ipv6_are_read_with_and_without_a_port(text: str) -> None:
    assert address("2001:db8::1", text) == "2001:db8::9"


@pytest.mark.parametrize(
    "text", ["unknown", "_hidden", "", " ", ",", "1.2.3", "1.2.3.4.5", "999.1.1.1", "\xff", "<script>", "1" * 9000]
)
def test_before_a_part_that_is_no_address_nothing_is_read(text: str) -> None:
    assert address("10.0.0.1", f"203.0.113.9, {text}") == "10.0.0.1"
    assert address("10.0.0.1", f"203.0.113.9, {text}, 10.4.4.4") == "10.4.4.4"


def test_if_all_are_proxies_it_is_the_first() -> None:
    assert address("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"


def test_a_long_header_is_read_from_its_end_alone() -> None:
    assert address("10.0.0.1", ", ".join(["203.0.113.9"] * 500 + [CALLER])) == CALLER
    assert address("10.0.0.1", ", ".join([CALLER] + [f"10.0.0.{number}" for number in range(2, 32)])) == "10.0.0.12"


def test_a_proxy_is_an_address_or_a_network() -> None:
    assert PROXIES.contains("10.255.0.1")
    assert PROXIES.contains("::ffff:10.255.0.1")
    assert not PROXIES.contains("11.0.0.1")
    assert not PROXIES.contains("not an address")
    with pytest.raises(ValueError, match="does not appear to be"):
        TrustedProxies("10.0.0.0/8, proxy.internal")
