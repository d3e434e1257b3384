"""Which connection is closed for another one."""

import resource
from dataclasses import dataclass, field

import pytest

from services.gateway.server import connections as module
from services.gateway.server.connections import Connections
from services.gateway.server.refusals import RefusalLog, encode_refusal
from services.gateway.settings import Settings
from shared.errors import Unavailable


@dataclass(eq=False)
class FakeConnection:
    """Notes that it was closed."""

    address: str
    evicted: list[str] = field(default_factory=list)
    name: str = ""

    def evict(self) -> None:
        self.evicted.append(self.name)

    def close_if_overdue(self, now: float) -> None: ...

    def abort_if_not_closed(self, now: float) -> None: ...

    def abort_if_unread(self, now: float) -> None: ...

    def abort_unread(self) -> None:
        self.evicted.append(self.name)


class World:
    """Connections, and the names of those that were closed for others."""

    def __init__(self, **settings: object) -> None:
        self.connections = Connections(Settings(secret="x" * 44, **settings))  # type: ignore[arg-type]
        self.evicted: list[str] = []

    def add(self, name: str, address: str = "10.0.0.1") -> FakeConnection:
        connection = FakeConnection(address, self.evicted, name)
        assert self.connections.add(connection)
        if self.evicted and (gone := self.evicted[-1]) != name:
            for waiting in list(self.connections._waiting.values()):
                for one in list(waiting):
                    if isinstance(one, FakeConnection) and one.name == gone:
                        self.connections.remove(one)
        return connection


def test_of_one_address_the_one_that_waited_longest_is_closed() -> None:
    world = World(http_waiting_per_address=2)
    first, second = world.add("first"), world.add("second")
    world.add("elsewhere", "10.0.0.2")
    world.connections.wait(first)  # it has moved
    world.add("third")
    assert world.evicted == ["second"]
    world.connections.stop_waiting(first)  # it has sent a request
    world.add("fourth")
    assert world.evicted == ["second"]
    assert second.address == "10.0.0.1"


def test_trusted_proxies_may_have_any_number() -> None:
    world = World(http_waiting_per_address=1, http_trusted_proxies="10.1.0.0/16, ::1")
    for number in range(5):
        world.add(f"a{number}", "10.1.2.3")
        world.add(f"b{number}", "::1")
    assert world.evicted == []
    world.add("c", "10.2.0.1")
    world.add("d", "10.2.0.1")
    assert world.evicted == ["c"]


def test_when_all_places_are_taken_the_largest_holder_gives_one() -> None:
    world = World(http_connections=4)
    world.add("victim", "10.0.0.9")
    for number in range(3):
        world.add(f"flood{number}")
    world.add("new", "10.0.0.8")
    assert world.evicted == ["flood0"]
    assert world.connections.count == 4


def test_a_connection_with_a_request_is_never_closed_for_another() -> None:
    world = World(http_connections=2)
    for name in ("a", "b"):
        world.connections.stop_waiting(world.add(name))
    refused = FakeConnection("10.0.0.1", world.evicted, "c")
    assert not world.connections.add(refused)
    world.connections.remove(refused)
    assert (world.evicted, world.connections.count) == ([], 2)


def test_where_none_waits_those_that_read_too_slowly_give_their_places() -> None:
    world = World(http_connections=4)
    victim, *slow, reader = [world.add(name, f"10.0.0.{name[-1]}") for name in ("v9", "a1", "b1", "c2")]
    for connection in (victim, *slow, reader):
        world.connections.stop_waiting(connection)
    for connection in (reader, *slow):
        world.connections.pause_writing(connection)
    world.connections.add(FakeConnection("10.0.0.8", world.evicted, "new"))
    assert world.evicted == ["a1"], "of the address that has most, the one that reads slowly for longest"


def test_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (300, 1000)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(now=new))
    assert module._raise_file_limit(2048) == 1000 - 256
    assert limits["now"] == (1000, 1000)
    assert module._raise_file_limit(100) == 100


def test_refusals_make_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog()
    for second in range(30):
        for _ in range(1000):
            log.add("headers_too_large_error")
        log.flush(float(second))
    assert len(caplog.records) == 3
    assert "10000 of headers_too_large_error" in caplog.text


def test_a_refusal_is_a_response_of_the_unified_shape() -> None:
    head, _, body = encode_refusal(Unavailable("Full.")).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
    assert {b"connection: close", b"retry-after: 1", b"content-length: %d" % len(body)} <= set(lines[1:])
    assert body == (
        b'{"detail":{"type":"service_unavailable_error","message":"Full.","code":503,"origin":"Humanloop"}}'
    )
