"""Requests and responses of Anthropic's Messages API; tests/contract checks them with Anthropic's own client."""

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
    """`/v1/messages`"""

    prefix = "/v1"
    stream_type = "text/event-stream"

    def api_key(self, headers: dict[str, str]) -> str | None:
        """Return the `x-api-key` header, or the bearer token that the client library sends since 2.0."""
        return headers.get("x-api-key") or (headers.get("authorization") or "").removeprefix("Bearer ") or None

    def is_streamed(self, request: RecordedRequest) -> bool:
        """Return `stream` of the body."""
        return bool(request.body.get("stream"))

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:
        """Return a message: a text block, then one per tool call."""
        usage = {"input_tokens": reply.prompt_tokens, "output_tokens": reply.generation_tokens}
        return _message(request, content=_blocks(reply), stop_reason=_reason(reply), usage=usage)

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterator[bytes]:
        """Yield one event per word; tool call arguments come in two pieces after an empty one."""
        for event in _events(request, reply):
            yield sse(event, event["type"])

    def error_body(self, reply: Reply) -> Json:
        """Return `{"type": "error", "error": {…}}`; the type follows the status."""
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
    """Start a fake server on a free port, in a thread."""
    return server.start(Anthropic())
