"""Requests and responses of Cohere's chat API v2; tests/contract checks them with Cohere's own client library."""

import re
from collections.abc import Iterator

from tests.fake_servers import server
from tests.fake_servers.server import FakeServer, Json, RecordedRequest, Reply, sse

_REASONS = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_call": "TOOL_CALL"}
_PREAMBLE_TOKENS = 7
"""Tokens of Cohere's own system prompt: in `tokens`, not in `billed_units`."""


def _reason(reply: Reply) -> str:
    reason = reply.finish_reason or ("tool_call" if reply.tool_calls else "stop")
    return _REASONS.get(reason, reason)


def _usage(reply: Reply) -> Json:
    return {
        "billed_units": {
            "input_tokens": float(reply.prompt_tokens - _PREAMBLE_TOKENS),
            "output_tokens": float(reply.generation_tokens),
        },
        "tokens": {"input_tokens": float(reply.prompt_tokens), "output_tokens": float(reply.generation_tokens)},
    }


def _words(text: str | None) -> list[str]:
    return re.findall(r"\s*\S+\s*$|\s*\S+", text or "")


class Cohere:
    """`/v2/chat`"""

    prefix = "/v2"
    stream_type = "text/event-stream"

    def api_key(self, headers: dict[str, str]) -> str | None:
        """Return the bearer token."""
        return (headers.get("authorization") or "").removeprefix("Bearer ") or None

    def is_streamed(self, request: RecordedRequest) -> bool:
        """Return `stream` of the body."""
        return bool(request.body.get("stream"))

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:  # noqa: ARG002
        """Return a message with a thinking and a text block; beside tool calls the text is `tool_plan`."""
        message: Json = {"role": "assistant"}
        if reply.tool_calls:
            message["tool_calls"] = reply.tool_calls
            message |= {"tool_plan": reply.content} if reply.content else {}
        else:
            thinking = {"type": "thinking", "thinking": "Let me think."}
            message["content"] = [thinking, {"type": "text", "text": reply.content or ""}]
        return {"id": "gen-1", "finish_reason": _reason(reply), "message": message, "usage": _usage(reply)}

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterator[bytes]:  # noqa: ARG002
        """Yield one event per word, tool call arguments in two pieces, finish reason and usage last."""
        start: Json = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        yield _event("message-start", {"message": start}, id="gen-1")
        if reply.tool_calls:
            for word in _words(reply.content):
                yield _event("tool-plan-delta", {"message": {"tool_plan": word}})
        else:
            yield from _block(0, "thinking", ["Let me think."])
            yield from _block(1, "text", _words(reply.content))
        for index, call in enumerate(reply.tool_calls or ()):
            yield from _call(index, call)
        delta: Json = {"finish_reason": _reason(reply), "usage": _usage(reply)}
        yield _event("message-end", delta | (reply.error or {}))

    def error_body(self, reply: Reply) -> Json:
        """Return `{"id": …, "message": …}`."""
        return {"id": "error-1", "message": "the fake server refuses"} | (reply.error or {})


def _event(kind: str, delta: Json | None = None, **fields: object) -> bytes:
    return sse({"type": kind, **fields} | ({"delta": delta} if delta else {}), event=kind)


def _block(index: int, kind: str, pieces: list[str]) -> Iterator[bytes]:
    yield _event("content-start", {"message": {"content": {"type": kind, kind: ""}}}, index=index)
    for piece in pieces:
        yield _event("content-delta", {"message": {"content": {kind: piece}}}, index=index)
    yield _event("content-end", index=index)


def _call(index: int, call: Json) -> Iterator[bytes]:
    arguments = call["function"]["arguments"] or ""
    half = len(arguments) // 2
    begun = call | {"function": {"name": call["function"]["name"], "arguments": ""}}
    yield _event("tool-call-start", {"message": {"tool_calls": begun}}, index=index)
    for piece in (arguments[:half], arguments[half:]):
        yield _event("tool-call-delta", {"message": {"tool_calls": {"function": {"arguments": piece}}}}, index=index)
    yield _event("tool-call-end", index=index)


def start() -> FakeServer:
    """Start a fake server on a free port, in a thread."""
    return server.start(Cohere())
