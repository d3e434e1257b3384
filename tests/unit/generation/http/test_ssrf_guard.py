"""SsrfGuard: which addresses are public, and when addresses are checked (docs/decisions/0010)."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.http.guarded_client import GuardedClient
from services.generation.http.name_lookup import NameLookup
from services.generation.http.ssrf_guard import SsrfGuard, is_public
from shared.errors import Invalid, UpstreamFailed

INSIDE = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.1", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.250"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001::1"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1"),
    *("fec0::1", "ff02::1", "100::1", "5f00::1", "4000::1", "e000::1"),
]
OUTSIDE = [
    *("1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "169.253.255.255", "100.63.255.255"),
    *("100.128.0.1", "192.0.1.1", "168.63.129.17", "223.255.255.255"),
    *("2606:4700:4700::1111", "2a00:1450:4001:800::200e", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_internal_address_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_what_is_public_is_global_to_the_standard_library(address: Any) -> None:
    plain = address.ipv4_mapped or address if address.version == 6 else address
    if plain in ipaddress.ip_network("64:ff9b::/96"):
        plain = ipaddress.IPv4Address(int(plain) & 0xFFFFFFFF)
    if is_public(address):
        assert plain.is_global
        for inside in ("private", "loopback", "link_local", "multicast", "reserved", "unspecified"):
            assert not getattr(plain, f"is_{inside}")


@given(st.ip_addresses(v=4))
def test_an_embedded_ipv4_address_is_as_public_as_the_address_itself(address: ipaddress.IPv4Address) -> None:
    for wrapped in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_public(ipaddress.ip_address(wrapped)) == is_public(address)


def guard(allow: str = "") -> SsrfGuard:
    return SsrfGuard(allow, NameLookup(8))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "localhost", "::1", "::ffff:127.0.0.1"),
        *("LOCALHOST", "localhost.", "127.0.0.1.", "0:0:0:0:0:0:0:1", "::ffff:7f00:1", "fe80::1%lo"),
    ],
)
async def test_every_spelling_of_a_loopback_address_is_refused(host: str) -> None:
    with pytest.raises((Invalid, UpstreamFailed), match=r"EVERLOOP_OUTBOUND_ALLOW|no address") as caught:
        await guard().resolve("tm_1", host, 80)
    assert repr(host) in caught.value.message


@pytest.mark.parametrize(
    ("allow", "host", "passes"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "127.1", False),
        (" LocalHost , 10.0.0.0/8 ", "localhost", True),
        ("localhost", "LOCALHOST", True),
        ("localhost.", "localhost", True),
        ("localhost", "localhost.", True),
        ("localhost.:80", "LocalHost", True),
        ("localhost:8080", "localhost", False),
        ("127.0.0.0/8", "127.1", True),
        ("127.0.0.0/8", "::ffff:127.9.9.9", True),
        ("127.0.0.0/8", "10.0.0.1", False),
        ("[::1]", "::1", True),
        ("::1", "::1", True),
        ("[0:0:0:0:0:0:0:1]:80", "::1", True),
        ("[::1]:81", "::1", False),
        ("0::1", "::1", True),
        ("::1/128", "::1", True),
        ("[::1]/128", "::1", True),
        ("", "8.8.8.8", True),
    ],
)
async def test_a_host_is_allowed_as_written_and_a_network_by_the_address(
    allow: str, host: str, *, passes: bool
) -> None:
    try:
        await guard(allow).resolve("tm_1", host, 80)
    except Invalid:
        assert not passes
    else:
        assert passes


class Names:
    """A name server in a loop: each look-up gives the next answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in self._answers.pop(0)]


class Wire:
    """Notes where connections go; nobody takes one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connected: list[str] = []
        monkeypatch.setattr(asyncio, "open_connection", self._connect)

    async def _connect(self, host: str, *_: Any, **__: Any) -> Any:
        self.connected.append(host)
        raise ConnectionRefusedError


async def call(url: str) -> str:
    """Return the error of a call."""
    with (
        GuardedClient().session("tm_1", 1000, "answers") as session,
        pytest.raises((Invalid, UpstreamFailed)) as caught,
    ):
        await session.get(url)
    return caught.value.message


async def test_a_name_is_looked_up_once_and_the_connection_goes_to_a_checked_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, wire = Names(monkeypatch, ["93.184.216.34"], ["127.0.0.1"]), Wire(monkeypatch)
    assert "cannot be reached" in await call("https://rebinding.example/")
    assert names.asked == ["rebinding.example"]
    assert wire.connected == ["93.184.216.34"]


async def test_one_internal_address_among_others_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    wire = Wire(monkeypatch)
    message = await call("http://mixed.example/")
    assert "EVERLOOP_OUTBOUND_ALLOW" in message
    assert wire.connected == []
    assert "10.0.0.1" not in message, "what names mean inside is nobody's business"


async def test_the_next_address_is_tried_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["93.184.216.34", "93.184.216.35"])
    wire = Wire(monkeypatch)
    await call("http://two.example/")
    assert wire.connected == ["93.184.216.34", "93.184.216.35"]


async def test_a_name_without_an_address_is_an_upstream_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UpstreamFailed, match=r"no address for the host 'nowhere\.example'"):
        await guard().resolve("tm_1", "nowhere.example", 80)
