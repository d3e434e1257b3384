"""The wire of Anthropic's Messages API. Checked against Anthropic's own client library."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.fake_servers import server
from tests.fake_servers.server import FakeServer, Json, RecordedRequest, Reply, sse

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_call": "tool_use"}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _reason(reply: Reply) -> str:
    reason = reply.finish_reason or ("tool_call" if reply.tool_calls else "stop")
    return _REASONS.get(reason, reason)


def _message(request: RecordedRequest, **fields: Any) -> Json:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": request.body.get("model", "")}
    return message | {"content": [], "stop_reason": None, "stop_sequence": None} | fields


def _blocks(reply: Reply) -> list[Json]:
    text = [{"type": "text", "text": reply.content}] if reply.content else []
    return text + [
        {
            "type": "tool_use",
            "id": call["id"],
            "name": call["function"]["name"],
            "input": json.loads(call["function"]["arguments"]),
        }
        for call in reply.tool_calls or ()
    ]


class Anthropic:
    """Messages."""

    prefix = "/v1"
    stream_type = "text/event-stream"

    def api_key(self, headers: dict[str, str]) -> str | None:
        """The older header, or a bearer token as the client library sends it since 2.0."""
        return headers.get("x-api-key") or (headers.get("authorization") or "").removeprefix("Bearer ") or None

    def is_streamed(self, request: RecordedRequest) -> bool:
        """As the body says."""
        return bool(request.body.get("stream"))

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:
        """Text, then the tool calls."""
        usage = {"input_tokens": reply.prompt_tokens, "output_tokens": reply.generation_tokens}
        return _message(request, content=_blocks(reply), stop_reason=_reason(reply), usage=usage)

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterator[bytes]:
        """A word an event; the arguments of a tool call in two pieces after an empty one, none if there are none."""
        for event in _events(request, reply):
            yield sse(event, event["type"])

    def error_body(self, reply: Reply) -> Json:
        """`{"type": "error", "error": {…}}`"""
        kind = _ERRORS.get(reply.status, "api_error")
        error = {"type": kind, "message": "the fake server refuses"} | (reply.error or {})
        return {"type": "error", "error": error, "request_id": "req_1"}


def _events(request: RecordedRequest, reply: Reply) -> Iterator[Json]:
    usage = {"input_tokens": reply.prompt_tokens, "output_tokens": 1}
    yield {"type": "message_start", "message": _message(request, usage=usage)}
    yield {"type": "ping"}
    for index, block in enumerate(_blocks(reply)):
        yield from _block_events(index, block)
    if reply.stream_error:
        yield {"type": "error", "error": {"type": "overloaded_error", "message": reply.stream_error}}
        return
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": _reason(reply), "stop_sequence": None},
        "usage": {"output_tokens": reply.generation_tokens},
    }
    yield {"type": "message_stop"}


def _block_events(index: int, block: Json) -> Iterator[Json]:
    start: Json
    if block["type"] == "text":
        start = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in re.findall(r"\s*\S+\s*$|\s*\S+", block["text"])]
    else:
        start = block | {"input": {}}
        text = json.dumps(block["input"]) if block["input"] else ""
        pieces = ["", text[: len(text) // 2], text[len(text) // 2 :]]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
    yield {"type": "content_block_stop", "index": index}


def start() -> FakeServer:
    """Serve on a free port in the background."""
    return server.start(Anthropic())
