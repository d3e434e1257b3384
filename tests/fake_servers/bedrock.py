"""Requests and responses of AWS Bedrock's Converse API; tests/contract checks them with AWS's own client library."""

import json
import re
import struct
from collections.abc import Iterator
from zlib import crc32

from tests.fake_servers import server
from tests.fake_servers.server import FakeServer, Json, RecordedRequest, Reply

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_call": "tool_use"}
_ERRORS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def _reason(reply: Reply) -> str:
    reason = reply.finish_reason or ("tool_call" if reply.tool_calls else "stop")
    return _REASONS.get(reason, reason)


def _usage(reply: Reply) -> Json:
    total = reply.prompt_tokens + reply.generation_tokens
    return {"inputTokens": reply.prompt_tokens, "outputTokens": reply.generation_tokens, "totalTokens": total}


def _blocks(reply: Reply) -> list[Json]:
    text: list[Json] = [{"text": reply.content}] if reply.content else []
    return text + [
        {
            "toolUse": {
                "toolUseId": call["id"],
                "name": call["function"]["name"],
                "input": json.loads(call["function"]["arguments"]),
            }
        }
        for call in reply.tool_calls or ()
    ]


class Bedrock:
    """Converse and ConverseStream."""

    prefix = ""
    stream_type = "application/vnd.amazon.eventstream"

    def api_key(self, headers: dict[str, str]) -> str | None:
        """Return the bearer token, or the id of the access key that signed the request."""
        shown = headers.get("authorization") or ""
        signed = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/", shown)
        return signed[1] if signed else shown.removeprefix("Bearer ") or None

    def is_streamed(self, request: RecordedRequest) -> bool:
        """Return whether the path is that of ConverseStream."""
        return request.path.endswith("/converse-stream")

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:  # noqa: ARG002
        """Return a message: a text block, then one per tool call."""
        return {
            "output": {"message": {"role": "assistant", "content": _blocks(reply)}},
            "stopReason": _reason(reply),
            "usage": _usage(reply),
            "metrics": {"latencyMs": 7},
        }

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterator[bytes]:  # noqa: ARG002
        """Yield one event per word; tool call arguments come in two pieces, without arguments in empty ones."""
        yield event("messageStart", {"role": "assistant"})
        for index, block in enumerate(_blocks(reply)):
            yield from _block_events(index, block)
        if reply.stream_error:
            yield exception("throttlingException", {"message": reply.stream_error})
            return
        yield event("messageStop", {"stopReason": _reason(reply)})
        yield event("metadata", {"usage": _usage(reply), "metrics": {"latencyMs": 7}})

    def error_body(self, reply: Reply) -> Json:
        """Return `{"message": …}`, and set the header that names the kind of error."""
        kind = _ERRORS.get(reply.status, "UnknownException") + ":http://internal/"
        reply.headers = {"x-amzn-ErrorType": kind} | reply.headers
        return {"message": "the fake server refuses"} | (reply.error or {})


def _block_events(index: int, block: Json) -> Iterator[bytes]:
    if (use := block.get("toolUse")) is None:
        deltas: list[Json] = [{"text": word} for word in re.findall(r"\s*\S+\s*$|\s*\S+", block["text"])]
    else:
        start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
        yield event("contentBlockStart", {"start": start, "contentBlockIndex": index})
        text = json.dumps(use["input"]) if use["input"] else ""
        deltas = [{"toolUse": {"input": piece}} for piece in (text[: len(text) // 2], text[len(text) // 2 :])]
    for delta in deltas:
        # Bedrock pads events to hide the lengths of words.
        yield event("contentBlockDelta", {"delta": delta, "contentBlockIndex": index, "p": "abcdef"})
    yield event("contentBlockStop", {"contentBlockIndex": index})


# Framing: https://smithy.io/2.0/aws/amazon-eventstream.html, 2026-11


def event(kind: str, payload: Json) -> bytes:
    """Return one event message of a binary event stream."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return framed(headers, json.dumps(payload).encode())


def exception(kind: str, payload: Json) -> bytes:
    """Return the exception message that ends a failed stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return framed(headers, json.dumps(payload).encode())


def framed(headers: dict[str, str], payload: bytes) -> bytes:
    """Frame a message: lengths, their checksum, headers (7 is the type of strings), payload, checksum of all."""
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head + payload
    return message + struct.pack("!I", crc32(message))


def start() -> FakeServer:
    """Start a fake server on a free port, in a thread."""
    return server.start(Bedrock())
