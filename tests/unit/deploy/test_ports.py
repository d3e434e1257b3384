"""Which port each server gets."""

import socket
from collections.abc import Iterator

import pytest

from deploy.local.errors import CommandError
from deploy.local.servers import ports


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_RELEASE_SECONDS", 0.0)


@pytest.fixture
def busy() -> Iterator[int]:
    """A port another program listens on."""
    with socket.socket() as server:
        server.bind((ports.HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_the_port_of_the_last_start_is_taken_again() -> None:
    first = ports.choose({"http": 0, "nats": None}, {})
    assert ports.choose({"http": None, "nats": None}, first) == first


def test_zero_is_a_free_port_whatever_the_previous_one_was() -> None:
    first = ports.choose({"http": 0}, {})
    again = ports.choose({"http": 0}, first)
    assert ports.is_free(again["http"])
    assert again["http"] not in range(32_768, 61_000)


@pytest.mark.parametrize("host", ["192.0.2.1", "::1"])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    with pytest.raises(CommandError, match=r"is not an IPv4 address of this machine .*EVERLOOP_HTTP_HOST"):
        ports.choose({"http": 28_123}, {}, host)
    with pytest.raises(CommandError, match=r"is not an IPv4 address of this machine .*EVERLOOP_HTTP_HOST"):
        ports.choose({"http": 0}, {}, host)


def test_a_requested_port_in_use_is_refused_with_the_option_to_change(busy: int) -> None:
    with pytest.raises(CommandError, match=rf"Port {busy} is in use .*--nats-port"):
        ports.choose({"nats": busy}, {})


def test_the_previous_http_port_in_use_is_an_error(busy: int) -> None:
    with pytest.raises(CommandError, match="--port"):
        ports.choose({"http": None}, {"http": busy})


def test_a_previous_internal_port_in_use_is_replaced(busy: int) -> None:
    assert ports.choose({"mongo": None}, {"mongo": busy})["mongo"] != busy


def test_one_port_cannot_be_requested_twice() -> None:
    port = ports.choose({"http": 0}, {})["http"]
    with pytest.raises(CommandError, match="asked for twice"):
        ports.choose({"http": port, "nats": port}, {})
