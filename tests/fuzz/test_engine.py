"""The fuzz finds the defects of a server that has some, and sends nothing that would harm its callers or leave them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.fuzz.callers import Caller
from tests.fuzz.cases import NOWHERE
from tests.fuzz.engine import Extent, Run

PROTECTED = "key_00000000000000000000a"
NUMBER = {"200": {"description": "", "content": {"application/json": {"schema": {"type": "integer"}}}}}
ID = {"name": "id", "in": "path", "required": True, "schema": {"enum": [PROTECTED]}}
ADDRESS = {"type": "object", "required": ["url"], "properties": {"url": {"enum": ["https://elsewhere.example/a"]}}}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "", "version": "1"},
    "paths": {
        "/number": {"get": {"responses": NUMBER}},
        "/text": {"get": {"responses": NUMBER}},
        "/failure": {"get": {"responses": NUMBER}},
        "/keys/{id}": {"delete": {"parameters": [ID], "responses": NUMBER}},
        "/address": {
            "post": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": ADDRESS}}},
                "responses": NUMBER,
            }
        },
    },
    "components": {"schemas": {}},
}
ANSWERS = {"/text": (200, "a text"), "/failure": (500, "Traceback (most recent call last)")}


class Server(ThreadingHTTPServer):
    """A server of `DOCUMENT`, two of whose operations do not keep to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, str]] = []
        """Path and body of each request but for the document."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        status, content = ANSWERS.get(self.path, (200, DOCUMENT if self.path == "/openapi.json" else 1))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.path != "/openapi.json":
            self.server.received.append((self.path, body))
        written = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that the base class looks for

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def found(server: Server) -> set[tuple[str, str]]:
    caller = Caller("Admin", "hl_x", frozenset({PROTECTED}), {})
    run = Run(f"http://127.0.0.1:{server.server_port}", caller, Extent(("fuzzing",), examples=3))
    return {(finding.operation, finding.title) for finding in run}


def test_defects_are_found_and_nothing_else(found: set[tuple[str, str]]) -> None:
    assert ("GET /text", "Response violates schema") in found
    assert ("GET /failure", "Undocumented status code") in found
    assert ("GET /failure", "tells internals: 'Traceback'") in found
    assert {operation for operation, _ in found} == {"GET /text", "GET /failure"}


def test_the_callers_keys_stay(server: Server, found: set[tuple[str, str]]) -> None:
    paths = {path for path, _ in server.received}
    assert "/keys/none" in paths, found
    assert f"/keys/{PROTECTED}" not in paths


def test_no_request_names_another_machine(server: Server, found: set[tuple[str, str]]) -> None:
    bodies = "".join(body for _, body in server.received)
    assert NOWHERE in bodies, found
    assert "elsewhere" not in bodies
