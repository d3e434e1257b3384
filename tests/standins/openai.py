"""A stand-in for the OpenAI API that records what it was sent. Checked against OpenAI's own client library."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the next request gets."""

    content: str | None = "Fine, thank you."
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    status: int = 200
    error: dict[str, Any] | None = None
    delay_seconds: float = 0.0
    chunk_delay_seconds: float = 0.0
    break_after_chunks: int | None = None


@dataclass
class Recorded:
    """A request as it arrived."""

    path: str
    key: str | None
    body: dict[str, Any]


@dataclass
class OpenAIStandIn:
    """The server; `replies` are used up in order, then the default one again and again."""

    url: str = ""
    requests: list[Recorded] = field(default_factory=list)
    replies: deque[Reply] = field(default_factory=deque)

    def reply(self, **fields: Any) -> None:
        """Queue a reply."""
        self.replies.append(Reply(**fields))

    @property
    def last(self) -> Recorded:
        """The newest request."""
        return self.requests[-1]

    def clear(self) -> None:
        """Forget requests and queued replies."""
        self.requests.clear()
        self.replies.clear()


def _choice(reply: Reply, index: int, *, chat: bool) -> dict[str, Any]:
    finish = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
    if not chat:
        return {"index": index, "text": reply.content or "", "finish_reason": finish, "logprobs": None}
    message: dict[str, Any] = {"role": "assistant", "content": reply.content, "refusal": None}
    if reply.tool_calls:
        message["tool_calls"] = reply.tool_calls
    return {"index": index, "message": message, "finish_reason": finish, "logprobs": None}


def _envelope(kind: str, model: str) -> dict[str, Any]:
    return {"id": "gen-1", "object": kind, "created": 1_700_000_000, "model": model}


_USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def _whole(reply: Reply, body: dict[str, Any], *, chat: bool) -> dict[str, Any]:
    choices = [_choice(reply, index, chat=chat) for index in range(body.get("n") or 1)]
    kind = "chat.completion" if chat else "text_completion"
    return _envelope(kind, body["model"]) | {"choices": choices, "usage": _USAGE}


def _chunks(reply: Reply, body: dict[str, Any], *, chat: bool) -> Iterator[dict[str, Any]]:
    kind = "chat.completion.chunk" if chat else "text_completion"
    envelope = _envelope(kind, body["model"])

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        inner = {"delta": delta} if chat else {"text": delta.get("content", "")}
        return envelope | {"choices": [{"index": 0, "finish_reason": finish, "logprobs": None, **inner}]}

    if chat:
        yield chunk({"role": "assistant", "content": ""})
    for word in (reply.content or "").split(" "):
        yield chunk({"content": word + " "})
    for index, call in enumerate(reply.tool_calls or ()):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield envelope | {"choices": [], "usage": _USAGE}


def start() -> OpenAIStandIn:
    """Serve on a free port in the background."""
    standin = OpenAIStandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            standin.requests.append(Recorded(self.path, key, body))
            reply = standin.replies.popleft() if standin.replies else Reply()
            time.sleep(reply.delay_seconds)
            chat = self.path.endswith("/chat/completions")
            if reply.status != 200:
                error = reply.error or {"message": "the stand-in refuses", "type": "invalid_request_error"}
                self._send(reply.status, {"error": error})
            elif body.get("stream"):
                self._stream(reply, body, chat=chat)
            else:
                self._send(200, _whole(reply, body, chat=chat))

        def _send(self, status: int, payload: dict[str, Any]) -> None:
            raw = json.dumps(payload).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def _stream(self, reply: Reply, body: dict[str, Any], *, chat: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for number, chunk in enumerate(_chunks(reply, body, chat=chat)):
                if reply.break_after_chunks is not None and number >= reply.break_after_chunks:
                    return
                self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                self.wfile.flush()
                time.sleep(reply.chunk_delay_seconds)
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A caller that left is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    standin.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return standin
