"""AllowedHosts: every way to write a host, and what is told about an entry that is none."""

import pytest
from pydantic import SecretStr

from services.generation.http.allowed_hosts import AllowedHosts, normalise_host
from services.generation.main import create_service
from services.generation.settings import Settings


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("api.internal.", "api.internal"),
        ("API.Internal", "api.internal."),
        ("  api.internal  ", "API.INTERNAL"),
        ("my_service", "my_service"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example.", "BÜCHER.example"),
        ("10.0.0.1.", "10.0.0.1"),
        ("[2001:DB8::0001]", "2001:db8::1"),
        ("2001:db8:0:0::1", "[2001:db8::1]"),
        ("::ffff:10.0.0.1", "::ffff:a00:1"),
    ],
)
def test_a_host_is_found_however_it_and_its_entry_are_written(entry: str, host: str) -> None:
    allowed = AllowedHosts(f"other.example,, {entry} ,")
    assert allowed.includes_host(host, 443)
    assert not allowed.includes_host(f"x.{host.strip('[]')}", 443)


@pytest.mark.parametrize(
    ("entry", "host"),
    [("api.internal:8080", "api.internal"), ("API.internal.:8080", "api.internal."), ("[::1]:8080", "::1")],
)
def test_an_entry_with_a_port_allows_that_port_alone(entry: str, host: str) -> None:
    allowed = AllowedHosts(entry)
    assert allowed.includes_host(host, 8080)
    assert not allowed.includes_host(host, 80)


@pytest.mark.parametrize(
    "entry",
    [
        *("https://api.internal", "api.internal/v1", "http://10.0.0.0/8", "10.0.0.0/99", "10.1.2.3/8", "10.0.0.0/8:80"),
        *("a b", "a.internal b.internal", "*.internal", ".internal", "a..", "-", "user@host", "host:port", "host:0"),
        *("host:65536", "host:99999999", "[::1", "::1]", "[api.internal]", "[::g]", "1:2:3", "[]", "/", "/8", "ü" * 64),
    ],
)
def test_an_entry_that_is_no_host_fails_the_start_and_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="EVERLOOP_OUTBOUND_ALLOW") as caught:
        create_service(Settings(secret=SecretStr("x" * 43 + "="), outbound_allow=f"api.example, {entry}"))
    assert repr(entry) in str(caught.value)


def test_a_name_that_is_none_in_ascii_is_an_error() -> None:
    with pytest.raises(ValueError, match="label"):
        normalise_host("ü" * 64)
