"""AWS's keys of several parts, regional addresses, request signatures and binary event streams.

Signatures: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html · streams:
https://smithy.io/2.0/aws/amazon-eventstream.html (2026-11). Both are read and written by botocore.
"""

import json
import re
from binascii import crc32
from collections.abc import AsyncIterator, Mapping

from botocore.eventstream import EventStreamBuffer, EventStreamMessage, ParserError

from services.generation.providers.base import PreparedRequest
from services.generation.providers.transport.stream_framing import MAX_EVENT_BYTES

_DEFAULT_REGION = "us-east-1"
_KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
VARIABLES = (*_KEY_VARIABLES, "AWS_REGION", "AWS_DEFAULT_REGION")
"""What `find_key` and `find_base_url` read beside the variables every provider has."""
_PRELUDE_BYTES = 12
"""Of a message: its length, the length of its headers, and a checksum of both."""
_REGION_IN_URL = re.compile(r"\bbedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")


# Keys and addresses


def find_key(environment: Mapping[str, str]) -> str | None:
    """Return the key from the variables that AWS's own programs read, or None; its parts are joined by colons, as in
    `provider_api_keys.bedrock`."""
    if bearer := environment.get("AWS_BEARER_TOKEN_BEDROCK"):
        return bearer
    key, secret, token = (environment.get(name) for name in _KEY_VARIABLES)
    return ":".join(part for part in (key, secret, token) if part) if key and secret else None


def find_base_url(environment: Mapping[str, str], keys: Mapping[str, str]) -> str:  # noqa: ARG001
    """Return the base URL, which depends on the region."""
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or _DEFAULT_REGION
    return environment.get("BEDROCK_BASE_URL") or f"https://bedrock-runtime.{region}.amazonaws.com"


def sign(prepared: PreparedRequest) -> dict[str, str]:
    """Return the headers of a version 4 signature if the key is `access:secret` or `access:secret:session token`.

    The region is read from AWS's hosts; for any other host it is us-east-1.
    """
    if prepared.key is None or ":" not in prepared.key:
        return {}
    # Imported here: 5 MiB and 70 ms (measured, 2026-11) that no other provider needs.
    from botocore.auth import SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    key, secret, *token = prepared.key.split(":", 2)
    region = _REGION_IN_URL.search(prepared.url)
    request = AWSRequest("POST", prepared.url, headers={"Content-Type": "application/json"}, data=prepared.content)
    credentials = Credentials(key, secret, token[0] if token else None)
    SigV4Auth(credentials, "bedrock", region[1] if region else _DEFAULT_REGION).add_auth(request)
    return {name: value for name, value in request.headers.items() if name != "Content-Type"}


# Streams


async def event_stream(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield each message of a binary event stream as JSON, `{event type: payload}`.

    Raises ValueError if the body is no such stream, or a message is longer than `MAX_EVENT_BYTES`.
    """
    buffer = bytearray()
    async for piece in received:
        buffer += piece
        while len(buffer) >= _PRELUDE_BYTES:
            size = int.from_bytes(buffer[:4], "big")
            if crc32(buffer[:8]) != int.from_bytes(buffer[8:_PRELUDE_BYTES], "big"):
                raise ValueError("not a message of an event stream")
            if size > MAX_EVENT_BYTES:
                raise ValueError(f"a message of more than {MAX_EVENT_BYTES:,} bytes")
            if len(buffer) < size:
                break
            yield _to_json(_message(bytes(buffer[:size])))
            del buffer[:size]


def _message(raw: bytes) -> EventStreamMessage:
    """Parse a complete message (botocore would copy its buffer with every piece). Raises ValueError."""
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    try:
        return next(buffer)
    except (ParserError, StopIteration) as error:
        raise ValueError("not a message of an event stream") from error


def _to_json(message: EventStreamMessage) -> bytes:
    if message.headers.get(":message-type") == "event":
        return b'{"%s":%s}' % (str(message.headers.get(":event-type")).encode(), message.payload or b"null")
    # An exception has a payload; an error is described in the headers.
    name = message.headers.get(":exception-type") or message.headers.get(":error-code") or "error"
    detail = message.payload.decode(errors="replace") or message.headers.get(":error-message", "")
    return json.dumps({"exception": {"type": name, "payload": detail}}).encode()
