"""The wire of Google's Gemini API. Checked against Google's own client library, google-genai."""

import json
import re
from collections.abc import Iterator

from tests.fake_servers import server
from tests.fake_servers.server import FakeServer, Json, RecordedRequest, Reply, sse

_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_call": "STOP"}
BLOCKED = "BLOCKED"
"""As `finish_reason`: the prompt is refused, so there is no candidate."""
_THOUGHTS = 2
"""Of the generated tokens."""


def _reason(reply: Reply) -> str:
    reason = reply.finish_reason or "stop"
    return _REASONS.get(reason, reason)


def _call(call: Json) -> Json:
    """A call may have no `id`, as with Gemini 2, and a `signature`, as with Gemini 3."""
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
        """A header of Google's."""
        return headers.get("x-goog-api-key")

    def is_streamed(self, request: RecordedRequest) -> bool:
        """As the address says."""
        return request.path.partition("?")[0].endswith(":streamGenerateContent")

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:
        """One candidate; none for a blocked prompt, and one without content for a withheld answer."""
        if reply.finish_reason == BLOCKED:
            return _answer(request, reply, None)
        reason: Json = {"finishReason": _reason(reply)}
        if reason["finishReason"] not in _REASONS.values():
            return _answer(request, reply, reason)
        parts: list[Json] = [{"text": "Let me think.", "thought": True}]
        parts += [{"text": reply.content}] if reply.content else []
        return _answer(request, reply, _content(*parts, *map(_call, reply.tool_calls or ())) | reason)

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterator[bytes]:
        """A word an event, an event for each call, and the reason last and alone."""
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
        """`{"error": {"code", "message", "status"}}`"""
        return {
            "error": {"code": reply.status, "message": "the fake server refuses", "status": "INVALID_ARGUMENT"}
            | (reply.error or {})
        }


def start() -> FakeServer:
    """Serve on a free port in the background."""
    return server.start(Gemini())
