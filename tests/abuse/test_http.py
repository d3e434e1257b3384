"""Connections: endless heads, half requests, unread responses. Each ends, with an answer where HTTP has one."""

import socket
import time

import psutil
import pytest

from tests.abuse.attacks import connections
from tests.abuse.attacks.target import JSON, Target, receive, send
from tests.abuse.memory import PeakMemory
from tests.abuse.victim import Victim
from tests.stack import Stack

pytestmark = pytest.mark.usefixtures("victim", "memory")

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def target(stack: Stack) -> Target:
    return Target(stack.url, stack.api_key)


def exchange(target: Target, data: bytes) -> bytes:
    """Send `data` on a connection of its own and return what is received until it is closed."""
    with target.connections(1) as (connection,):
        send(connection, data)
        return receive(connection)


def open_connections(stack: Stack) -> int:
    """How many connections the gateway has on its port."""
    gateway = stack.status()["gateway"]
    found = psutil.Process(gateway["pid"]).net_connections("tcp")
    return sum(one.laddr.port == gateway["port"] and one.status == psutil.CONN_ESTABLISHED for one in found)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 414, b"uri_too_long_error"),
        (b"GET /v4/logs?project_id=" + b"a" * 20_000, 414, b"uri_too_long_error"),
        (HEALTH + b"X: " + b"a" * 33_000 + b"\r\n\r\n", 431, b"headers_too_large_error"),
        (HEALTH + b"x" * 40_000, 431, b"headers_too_large_error"),
        (HEALTH + b"a: b\r\n" * 120 + b"\r\n", 431, b"headers_too_large_error"),
        (HEALTH + b"".join(b"h%d: b\r\n" % number for number in range(6000)), 431, b"headers_too_large_error"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, b"bad_request_error"),
        (HEALTH + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, b"bad_request_error"),
        (b"\r\n" * 30_000, 431, b"headers_too_large_error"),
    ],
    ids=["path", "half a path", "header", "half a name", "count", "count, no end", "TLS", "two lengths", "empty lines"],
)
def test_a_head_over_a_limit_is_refused_in_the_unified_shape(
    target: Target, data: bytes, status: int, code: bytes
) -> None:
    received = exchange(target, data)
    assert received.startswith(b"HTTP/1.1 %d " % status), received
    assert b"\r\nconnection: close\r\n" in received
    assert b'{"detail":{"type":"%s"' % code in received


def test_an_endless_header_is_refused_at_once(target: Target) -> None:
    assert connections.send_endless_header(target).startswith(b"HTTP/1.1 431 ")


def test_what_is_within_the_limits_is_answered(target: Target) -> None:
    head = HEALTH + b"".join(b"h%d: %s\r\n" % (number, b"v" * 300) for number in range(90)) + b"Connection: close\r\n"
    assert exchange(target, head + b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_head_may_follow_a_long_body_in_the_same_piece(target: Target) -> None:
    """What is counted is the head, and not what arrives together with it."""
    body = b'{"project": "p", "config": {"type": "tool", "name": "t"}, "output": "%s"}' % (b"x" * 150_000)
    log = target.head("POST", "/logs", JSON | {"Content-Length": len(body)}) + body
    received = exchange(target, log + log + HEALTH + b"Connection: close\r\n\r\n")
    assert received.count(b"HTTP/1.1 200 ") == 3, received


def test_every_half_request_is_ended_and_its_place_is_free_again(stack: Stack, target: Target) -> None:
    answers = connections.send_half_requests(target)
    told = [answer for answer in answers if answer]
    assert all(answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 503 ")) for answer in told)
    assert len(told) > len(answers) / 2, "those that sent something are told why"
    until = time.monotonic() + 10
    while open_connections(stack) > 20 and time.monotonic() < until:
        time.sleep(0.2)
    assert open_connections(stack) <= 20


@pytest.mark.parametrize("path", ["/logs", "/nothing"], ids=["read", "not read"])
def test_a_body_that_drips_is_ended(target: Target, path: str) -> None:
    head = target.head("POST", path, JSON | {"Content-Length": 1_000_000})
    with target.connections(1) as (connection,):
        start = time.monotonic()
        going = send(connection, head)
        while going and time.monotonic() < start + 30:
            going = send(connection, b" ")
            time.sleep(0.2)
        assert not going
        status = b"408" if path == "/logs" else b"404"
        assert receive(connection).startswith(b"HTTP/1.1 " + status) or path == "/logs"


def test_trailers_are_bounded_and_are_no_headers(target: Target) -> None:
    chunked = target.head("POST", "/logs", JSON | {"Transfer-Encoding": "chunked", "Connection": "close"}).replace(
        f"X-API-KEY: {target.api_key}\r\n".encode(), b""
    )
    trailer = f"0\r\nX-API-KEY: {target.api_key}\r\n\r\n".encode()
    assert exchange(target, chunked + b"2\r\n{}\r\n" + trailer).startswith(b"HTTP/1.1 401 ")
    with target.connections(1) as (connection,):
        head = target.head("POST", "/logs", JSON | {"Transfer-Encoding": "chunked"})
        send(connection, head + b"2\r\n{}\r\n0\r\n")
        for _ in range(200):
            if not send(connection, b"X-Long: " + b"x" * 2000 + b"\r\n"):
                break
        assert receive(connection).startswith(b"HTTP/1.1 431 ")


def test_pipelined_requests_are_bounded(target: Target) -> None:
    received = connections.pipeline_requests(target)
    assert 1 <= received.count(b"HTTP/1.1 200 ") <= 40


def test_responses_that_are_not_read_end_their_connection(stack: Stack, target: Target, memory: PeakMemory) -> None:
    connections.leave_responses_unread(target, count=25, seconds=8)
    assert memory.by_service()["gateway"] > 0
    with target.connections(1) as (connection,):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        path = f"/logs?project_id={connections.store_long_logs(target)}"
        send(connection, target.head("GET", path, {}))
        until = time.monotonic() + 30
        while time.monotonic() < until and open_from(stack, connection):
            time.sleep(0.2)
        assert not open_from(stack, connection)


def open_from(stack: Stack, connection: socket.socket) -> bool:
    """Whether the gateway still has its end of a connection."""
    port, gateway = connection.getsockname()[1], stack.status()["gateway"]
    return any(one.raddr and one.raddr.port == port for one in psutil.Process(gateway["pid"]).net_connections("tcp"))


def test_one_address_leaves_places_for_others_and_for_itself(target: Target, victim: Victim) -> None:
    with target.connections(1100) as held:
        for connection in held:
            send(connection, b"GET /")
        assert exchange(target, HEALTH + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert victim.url
