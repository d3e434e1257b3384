"""Requests and responses of the OpenAI API; tests/contract checks them with OpenAI's own client library."""

import re
from collections.abc import Iterator
from typing import Any

from tests.fake_servers import server
from tests.fake_servers.server import FakeServer, Json, RecordedRequest, Reply, sse

FakeOpenAI = FakeServer
_REASONS = {"tool_call": "tool_calls"}


def _reason(reply: Reply) -> str:
    reason = reply.finish_reason or ("tool_call" if reply.tool_calls else "stop")
    return _REASONS.get(reason, reason)


def _choice(reply: Reply, index: int, *, chat: bool) -> Json:
    if not chat:
        return {"index": index, "text": reply.content or "", "finish_reason": _reason(reply), "logprobs": None}
    message: Json = {"role": "assistant", "content": reply.content, "refusal": None}
    if reply.tool_calls:
        message["tool_calls"] = reply.tool_calls
    return {"index": index, "message": message, "finish_reason": _reason(reply), "logprobs": None}


def _envelope(kind: str, model: str) -> Json:
    return {"id": "gen-1", "object": kind, "created": 1_700_000_000, "model": model}


def _usage(reply: Reply) -> Json:
    total = reply.prompt_tokens + reply.generation_tokens
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.generation_tokens,
        "total_tokens": total,
    }


class OpenAI:
    """Chat completions and completions."""

    prefix = "/v1"
    stream_type = "text/event-stream"

    def api_key(self, headers: dict[str, str]) -> str | None:
        """Return the bearer token, or the `api-key` header that Azure uses."""
        return headers.get("api-key") or (headers.get("authorization") or "").removeprefix("Bearer ") or None

    def is_streamed(self, request: RecordedRequest) -> bool:
        """Return `stream` of the body."""
        return bool(request.body.get("stream"))

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:
        """Return a completion with `n` equal choices."""
        chat = _chats(request)
        choices = [_choice(reply, index, chat=chat) for index in range(request.body.get("n") or 1)]
        kind = "chat.completion" if chat else "text_completion"
        return _envelope(kind, request.body.get("model", "")) | {"choices": choices, "usage": _usage(reply)}

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterator[bytes]:
        """Yield one event per word and per tool call, one with the finish reason, one with the usage if asked for."""
        for chunk in _chunks(reply, request.body, chat=_chats(request)):
            yield sse(chunk)
        yield b"data: [DONE]\n\n"

    def error_body(self, reply: Reply) -> Json:
        """Return `{"error": {…}}`."""
        return {"error": reply.error or {"message": "the fake server refuses", "type": "invalid_request_error"}}


def _chats(request: RecordedRequest) -> bool:
    return request.path.partition("?")[0].endswith("/chat/completions")


def _chunks(reply: Reply, body: Json, *, chat: bool) -> Iterator[Json]:
    kind = "chat.completion.chunk" if chat else "text_completion"
    envelope = _envelope(kind, body.get("model", ""))

    def chunk(delta: Json, finish: str | None = None) -> Json:
        inner: dict[str, Any] = {"delta": delta} if chat else {"text": delta.get("content", "")}
        return envelope | {"choices": [{"index": 0, "finish_reason": finish, "logprobs": None, **inner}]}

    if chat:
        yield chunk({"role": "assistant", "content": ""})
    for word in re.findall(r"\s*\S+|\s+$", reply.content or ""):
        yield chunk({"content": word})
    for index, call in enumerate(reply.tool_calls or ()):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, _reason(reply))
    if reply.always_sends_usage or (body.get("stream_options") or {}).get("include_usage"):
        yield envelope | {"choices": [], "usage": _usage(reply)}


def start() -> FakeServer:
    """Start a fake server on a free port, in a thread."""
    return server.start(OpenAI())
