"""Requests and responses of Replicate's predictions; tests/contract checks them with Replicate's own client library."""

import itertools
import re
from collections.abc import Iterator

from tests.fake_servers import server
from tests.fake_servers.server import FakeServer, Json, RecordedRequest, Reply


class Replicate:
    """Predictions: answered at once (`Prefer: wait`), polled, or streamed from a URL of their own."""

    prefix = "/v1"
    stream_type = "text/event-stream"

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._predictions: dict[str, tuple[RecordedRequest, Reply]] = {}

    def api_key(self, headers: dict[str, str]) -> str | None:
        """Return the bearer token."""
        return (headers.get("authorization") or "").removeprefix("Bearer ") or None

    def is_streamed(self, request: RecordedRequest) -> bool:
        """Return whether the path is that of a prediction's stream."""
        return "/stream/" in request.path

    def started_response(self, request: RecordedRequest, reply: Reply) -> Json | None:
        """Return a prediction with the status `starting` if the request does not wait; cancelling ends nothing here."""
        if request.method != "POST" or request.path.endswith("/cancel"):
            return None
        if request.headers.get("prefer") and not request.body.get("stream"):
            return None
        return self._prediction(request, reply, "starting")

    def polled_reply(self, request: RecordedRequest) -> Reply | None:
        """Return the reply of the prediction whose id is in the path."""
        started = self._predictions.get(request.path.removesuffix("/cancel").rpartition("/")[2])
        return started and started[1]

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:
        """Return a prediction that has succeeded."""
        started = self._predictions.get(request.path.rpartition("/")[2])
        return self._prediction(started[0] if started else request, reply, "succeeded")

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterator[bytes]:  # noqa: ARG002 - part of the protocol
        """Yield one event per word, then `done`."""
        for number, word in enumerate(_words(reply)):
            yield _event("output", word, number)
        yield _event("done", "{}", 1_000)

    def error_body(self, reply: Reply) -> Json:
        """Return `{"title": …, "detail": …, "status": …}`."""
        detail = (reply.error or {}).get("message", "the fake server refuses")
        return {"title": "Refused", "detail": detail, "status": reply.status}

    def _prediction(self, request: RecordedRequest, reply: Reply, status: str) -> Json:
        number = f"prediction{next(self._numbers)}"
        self._predictions[number] = (request, reply)
        origin = f"http://{request.headers['host']}/v1"
        done = status == "succeeded"
        return {
            "id": number,
            "model": "/".join(request.path.split("/")[3:5]),
            "version": request.body.get("version", "hidden"),
            "status": status,
            "input": request.body.get("input"),
            "output": _words(reply) if done else None,
            "logs": "",
            "error": None,
            "metrics": {"input_token_count": reply.prompt_tokens, "output_token_count": reply.generation_tokens}
            if done
            else {},
            "created_at": "2026-11-01T00:00:00Z",
            "started_at": None,
            "completed_at": None,
            "urls": {
                "get": f"{origin}/predictions/{number}",
                "cancel": f"{origin}/predictions/{number}/cancel",
                "stream": f"{origin}/stream/{number}",
            },
        }


def _words(reply: Reply) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", reply.content or "")


def _event(name: str, data: str, number: int) -> bytes:
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {name}\nid: {number}:0\n{lines}\n".encode()


def start() -> FakeServer:
    """Start a fake server on a free port, in a thread."""
    return server.start(Replicate())
