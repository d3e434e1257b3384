"""Bodies that cost more than they take on the wire, and bodies that do not arrive."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.abuse.attacks.target import JSON, Target, receive, send

UPLOAD_BYTES = 40_000_000


def send_all(target: Target, path: str, bodies: list[bytes], *, at_once: int = 4) -> list[httpx.Response]:
    """Send each body to `path`, some at a time; return the answers."""
    with target.client() as client, ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda body: client.post(path, content=body), bodies))


def send_empty_arrays(target: Target) -> list[httpx.Response]:
    """Send 47 MiB, 4 MB and 1 MB of `[],`, of each several at once."""
    bodies = [b"[" + b"[]," * count + b"[]]" for count in [16_000_000, *[1_390_000] * 4, *[333_000] * 8]]
    return send_all(target, "/logs", bodies)


def send_objects(target: Target) -> list[httpx.Response]:
    """Send logs whose inputs are very many objects, keys, numbers and strings, as many as are accepted and more."""
    start, end = b'{"project": "dense", "config": {"type": "tool", "name": "t"}, "inputs": {"x": ', b"}}"
    dense = [
        b"[" + b'{"a":1},' * 100_000 + b"1]",
        b"[" + b"{}," * 1_300_000 + b"1]",
        b"[" + b'"",' * 1_300_000 + b"1]",
        b"{" + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}",
        b"[" + b",".join(b"%d" % number for number in range(400_000)) + b"]",
    ]
    return send_all(target, "/logs", [start + body + end for body in dense * 2])


def leave_uploads_idle(target: Target, count: int = 40, seconds: float = 8.0) -> list[bytes]:
    """Begin large uploads and send no more, at first a little and then one byte a second; return the answers."""
    head = target.head("POST", "/logs", JSON | {"Content-Length": UPLOAD_BYTES})
    with target.connections(count) as connections:
        for connection in connections:
            send(connection, head + b'{"project": "')
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(1)
            for connection in connections:
                send(connection, b"x")
        return [receive(connection) for connection in connections]


def upload_slowly(target: Target, body: bytes, seconds: float) -> httpx.Response:
    """Send `body` evenly over some seconds, as from a slow line."""
    pieces = 20

    def chunks() -> Iterator[bytes]:
        size = -(-len(body) // pieces)
        for start in range(0, len(body), size):
            yield body[start : start + size]
            threading.Event().wait(seconds / pieces)

    with target.client() as client:
        return client.post("/logs", content=chunks(), headers={"Content-Length": str(len(body))})


def cut_uploads_off(target: Target, count: int = 15) -> None:
    """Send nearly all of a log with an image of 40 MB, again and again, and leave."""
    start = b'{"project": "cut", "config": {"type": "tool", "name": "t"}, "inputs": {"a": "data:image/png;base64,'
    head = target.head("POST", "/logs", JSON | {"Content-Length": UPLOAD_BYTES})
    for _ in range(count):
        with target.connections(1) as (connection,):
            connection.settimeout(10)
            connection.sendall(head + start + b"A" * (UPLOAD_BYTES - 1_000_000))
            time.sleep(0.2)


def send_arrays_of_logs(target: Target) -> list[httpx.Response]:
    """Send six arrays of 5,000 small logs at once."""
    logs = [{"project": "arrays", "config": {"type": "tool", "name": "t"}, "output": "found"}] * 5000
    return send_all(target, "/logs", [json.dumps(logs).encode()] * 6, at_once=6)
