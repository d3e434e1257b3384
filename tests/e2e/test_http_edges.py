"""What the server itself makes of a request, over a socket: trailers, redirects, the headers of answers."""

import socket

import httpx
import pytest

from tests.calls import ok, reference
from tests.stack import Stack

BODY = b'{"project": "edges", "config": {"type": "tool", "name": "t"}, "output": "x"}'


def exchange(stack: Stack, request: bytes) -> tuple[bytes, bytes]:
    """Send bytes on a connection that the server closes; return the head of the answer and its body."""
    url = httpx.URL(stack.base_url)
    with socket.create_connection((url.host, url.port or 80), timeout=20) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def chunked(head: bytes, *, trailer: bytes = b"") -> bytes:
    """A log in one chunk, with a trailer after it."""
    body = b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), BODY, trailer)
    return (
        b"POST /v4/logs HTTP/1.1\r\nHost: everloop\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        b"Trailer: X-API-KEY\r\nConnection: close\r\n%s\r\n%s" % (head, body)
    )


def test_a_key_in_a_trailer_is_none(stack: Stack) -> None:
    key = b"X-API-KEY: %s\r\n" % stack.api_key.encode()
    assert b" 200 " in exchange(stack, chunked(key))[0]
    head, body = exchange(stack, chunked(b"", trailer=key))
    assert b" 401 " in head
    assert b"in the header X-API-KEY, before the body" in body


def test_a_trailer_changes_no_header(stack: Stack) -> None:
    key = b"X-API-KEY: %s\r\n" % stack.api_key.encode()
    head, _ = exchange(stack, chunked(key, trailer=b"X-API-KEY: another\r\nHost: evil\r\n"))
    assert b" 200 " in head


def test_two_keys_in_one_request_are_refused_whichever_is_first(stack: Stack) -> None:
    key, other = b"X-API-KEY: %s\r\n" % stack.api_key.encode(), b"x-api-key: hl_%s\r\n" % (b"x" * 48)
    for both in (key + other, other + key, key + b"Authorization: Bearer hl_%s\r\n" % (b"x" * 48)):
        head, body = exchange(stack, chunked(both))
        assert b" 401 " in head
        assert b"send one" in body


@pytest.mark.parametrize("request_", [b"nothing\r\n\r\n", b"GET /v4/logs HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n"])
def test_what_is_no_request_is_a_unified_error(stack: Stack, request_: bytes) -> None:
    head, body = exchange(stack, request_)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b'"origin":"Humanloop"' in body
    assert b"x-content-type-options: nosniff" in head.lower()


def test_a_redirect_does_not_repeat_the_host(stack: Stack) -> None:
    head, _ = exchange(stack, b"GET /v4/projects/?page=1 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert b"evil" not in head
    assert b"location: /v4/projects?page=1" in head.lower()


def test_no_answer_with_a_secret_or_an_error_is_cached_or_guessed_at(stack: Stack, api: httpx.Client) -> None:
    chat = {"project": "edges", "model_config": {"provider": "mock", "model": "mock"}, "messages": []}
    answers = [
        api.post(f"{stack.base_url}/api/keys", json={"name": f"edges {reference()}"}),
        api.get(f"{stack.base_url}/api/provider-keys"),
        api.get("/projects"),
        api.get("/nothing"),
        api.post("/chat", json=chat),
        api.post("/chat", json=chat | {"stream": True}),
        api.post("/chat", json={}),
        httpx.post(f"{stack.url}/logs", json={}),
        httpx.get(f"{stack.base_url}/healthz"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 404, 200, 200, 422, 401, 200]
    for answer in answers:
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], answer.url
        assert answer.headers.get_list("cache-control") == ["no-store"], answer.url


def test_head_and_options_are_answered(api: httpx.Client) -> None:
    head = api.head("/projects")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    assert api.options("/logs").headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST"
    assert ok(api.get("/projects"))["records"] is not None
