"""Which port is taken when."""

import socket
from collections.abc import Iterator

import pytest

from deploy.local.errors import Refused
from deploy.local.servers import ports


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_LINGER_SECONDS", 0.0)


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


def test_zero_is_a_free_port_even_when_one_is_remembered() -> None:
    first = ports.choose({"http": 0}, {})
    again = ports.choose({"http": 0}, first)
    assert ports.is_free(again["http"])
    assert again["http"] not in range(32_768, 61_000)


def test_a_wished_port_in_use_is_refused_with_the_option_to_change(busy: int) -> None:
    with pytest.raises(Refused, match=rf"Port {busy} is in use .*--nats-port"):
        ports.choose({"nats": busy}, {})


def test_the_remembered_http_port_in_use_is_refused_for_clients_know_it(busy: int) -> None:
    with pytest.raises(Refused, match="--port"):
        ports.choose({"http": None}, {"http": busy})


def test_a_remembered_inner_port_in_use_is_replaced(busy: int) -> None:
    assert ports.choose({"mongo": None}, {"mongo": busy})["mongo"] != busy


def test_one_port_cannot_be_wished_twice() -> None:
    port = ports.choose({"http": 0}, {})["http"]
    with pytest.raises(Refused, match="asked for twice"):
        ports.choose({"http": port, "nats": port}, {})
