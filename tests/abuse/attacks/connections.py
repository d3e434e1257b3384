"""Connections that cost their sender nothing: endless headers, halves of requests, responses that are not read."""

import time

from tests.abuse.attacks.target import Target, receive, send
from tests.calls import ok, reference

ELSEWHERE = "127.0.0.2"
"""Another address than the victim's."""


def send_endless_header(target: Target) -> bytes:
    """Send one header of 64 MiB; return the answer."""
    with target.connections(1) as (connection,):
        going = send(connection, b"GET /healthz HTTP/1.1\r\nX-Long: ")
        for _ in range(64):
            going = going and send(connection, b"x" * 2**20)
        return receive(connection)


def send_half_requests(target: Target, count: int = 1500) -> list[bytes]:
    """Send halves of requests, of heads and of bodies, from two addresses; return what each connection received."""
    halves = [
        b"",
        b"GET /heal",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
        target.head("POST", "/logs", {"Content-Type": "application/json", "Content-Length": 10_000}) + b"{",
        target.head("POST", "/logs", {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}) + b"5\r\n{",
    ]
    with (
        target.connections(count // 2) as near,
        target.connections(count // 2, source=ELSEWHERE) as far,
    ):
        for number, connection in enumerate(near + far):
            send(connection, halves[number % len(halves)])
        return [receive(connection) for connection in near + far]


def pipeline_requests(target: Target, count: int = 20_000) -> bytes:
    """Send many requests on one connection without waiting for a response; return what is received."""
    with target.connections(1) as (connection,):
        for _ in range(count // 1000):
            if not send(connection, target.head("GET", "/projects", {"Accept": "*/*"}) * 1000):
                break
        return receive(connection)


def store_long_logs(target: Target) -> str:
    """Store three logs of 3 MB in a new project; return its id."""
    log = {"project": f"unread-{reference()}", "config": {"type": "tool", "name": "t"}, "output": "x" * 3_000_000}
    with target.client() as client:
        stored = [ok(client.post("/logs", json=log)) for _ in range(3)]
    return str(stored[0]["project_id"])


def leave_responses_unread(target: Target, count: int = 40, seconds: float = 8.0) -> None:
    """Ask for a page of megabytes on many connections, and read none of them."""
    project_id = store_long_logs(target)
    with target.connections(count) as connections:
        for connection in connections:
            send(connection, target.head("GET", f"/logs?project_id={project_id}", {}))
        time.sleep(seconds)
