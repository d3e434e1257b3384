"""Requests and responses of Google's Gemini API; tests/contract checks them with Google's own library google-genai."""

import json
import re
from collections.abc import Iterator

from tests.fake_servers import server
from tests.fake_servers.server import FakeServer, Json, RecordedRequest, Reply, sse

_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_call": "STOP"}
BLOCKED = "BLOCKED"
"""As `Reply.finish_reason`: the prompt is blocked, so the response has no candidate."""
_THOUGHTS = 2
"""How many of the generated tokens are reported as thoughts."""


def _reason(reply: Reply) -> str:
    reason = reply.finish_reason or "stop"
    return _REASONS.get(reason, reason)


def _call(call: Json) -> Json:
    """Return the part of a tool call; it has no `id` with Gemini 2, and a `thoughtSignature` with Gemini 3."""
    function = call["function"]
    part: Json = {"functionCall": {"name": function["name"], "args": json.loads(function["arguments"] or "{}")}}
    if "id" in call:
        part["functionCall"]["id"] = call["id"]
    return part | ({"thoughtSignature": call["signature"]} if "signature" in call else {})


def _usage(reply: Reply) -> Json:
    thoughts = min(_THOUGHTS, reply.generation_tokens)
    return {
        "promptTokenCount": reply.prompt_tokens,
        "candidatesTokenCount": reply.generation_tokens - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": reply.prompt_tokens + reply.generation_tokens,
    }


def _answer(request: RecordedRequest, reply: Reply, candidate: Json | None) -> Json:
    answer: Json = {"modelVersion": request.path.rpartition("/")[2].partition(":")[0], "responseId": "gen-1"}
    if candidate is None:
        return answer | {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": _usage(reply)}
    return answer | {"candidates": [candidate | {"index": 0}], "usageMetadata": _usage(reply)}


def _content(*parts: Json) -> Json:
    return {"content": {"role": "model", "parts": list(parts)}}


class Gemini:
    """`:generateContent` and `:streamGenerateContent?alt=sse`."""

    prefix = "/v1beta"
    stream_type = "text/event-stream"

    def api_key(self, headers: dict[str, str]) -> str | None:
        """Return the `x-goog-api-key` header."""
        return headers.get("x-goog-api-key")

    def is_streamed(self, request: RecordedRequest) -> bool:
        """Return whether the path is that of `streamGenerateContent`."""
        return request.path.partition("?")[0].endswith(":streamGenerateContent")

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:
        """Return one candidate; none for a blocked prompt, and one without content for a withheld answer."""
        if reply.finish_reason == BLOCKED:
            return _answer(request, reply, None)
        reason: Json = {"finishReason": _reason(reply)}
        if reason["finishReason"] not in _REASONS.values():
            return _answer(request, reply, reason)
        parts: list[Json] = [{"text": "Let me think.", "thought": True}]
        parts += [{"text": reply.content}] if reply.content else []
        return _answer(request, reply, _content(*parts, *map(_call, reply.tool_calls or ())) | reason)

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterator[bytes]:
        """Yield one event per word, one per tool call, and one with the finish reason alone."""
        if reply.finish_reason == BLOCKED:
            yield sse(_answer(request, reply, None))
            return
        yield sse(_answer(request, reply, _content({"text": "Let me think.", "thought": True})))
        for word in re.findall(r"\s*\S+\s*$|\s*\S+", reply.content or ""):
            yield sse(_answer(request, reply, _content({"text": word})))
        for call in reply.tool_calls or ():
            yield sse(_answer(request, reply, _content(_call(call))))
        yield sse(_answer(request, reply, {"finishReason": _reason(reply)}))

    def error_body(self, reply: Reply) -> Json:
        """Return `{"error": {"code", "message", "status"}}`."""
        return {
            "error": {"code": reply.status, "message": "the fake server refuses", "status": "INVALID_ARGUMENT"}
            | (reply.error or {})
        }


def start() -> FakeServer:
    """Start a fake server on a free port, in a thread."""
    return server.start(Gemini())
