"""What AWS does in its own way: keys of several parts, an address for every region, signatures, binary streams.

Signatures: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html · streams:
https://smithy.io/2.0/aws/amazon-eventstream.html (2026-11). Both are read and written by botocore.
"""

import json
import re
from binascii import crc32
from collections.abc import AsyncIterator, Mapping

from botocore.eventstream import EventStreamBuffer, EventStreamMessage, ParserError

from services.generation.providers.base import PreparedRequest
from services.generation.providers.transport.stream_framing import LONGEST_EVENT

_REGION = "us-east-1"
_KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
VARIABLES = (*_KEY_VARIABLES, "AWS_REGION", "AWS_DEFAULT_REGION")
"""What `find_key` and `find_address` read beside the variables every provider has."""
_PRELUDE_BYTES = 12
"""Of a message: its length, that of its headers, and a checksum of both."""
_REGION_OF = re.compile(r"\bbedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")


# Keys and addresses


def find_key(environment: Mapping[str, str]) -> str | None:
    """The names that AWS's own programs read. Several parts are joined by colons, as `provider_api_keys.bedrock` has
    them."""
    if bearer := environment.get("AWS_BEARER_TOKEN_BEDROCK"):
        return bearer
    key, secret, token = (environment.get(name) for name in _KEY_VARIABLES)
    return ":".join(part for part in (key, secret, token) if part) if key and secret else None


def find_address(environment: Mapping[str, str], keys: Mapping[str, str]) -> str:  # noqa: ARG001
    """Every region has its own."""
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or _REGION
    return environment.get("BEDROCK_BASE_URL") or f"https://bedrock-runtime.{region}.amazonaws.com"


def sign(prepared: PreparedRequest) -> dict[str, str]:
    """Signature version 4 with an access key, its secret, and the token of a session if it is of one.

    The region is in AWS's addresses; behind another address it is us-east-1.
    """
    if prepared.key is None or ":" not in prepared.key:
        return {}
    # 5 MiB and 70 ms (measured, 2026-11) that nobody else needs.
    from botocore.auth import SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    key, secret, *token = prepared.key.split(":", 2)
    region = _REGION_OF.search(prepared.url)
    request = AWSRequest("POST", prepared.url, headers={"Content-Type": "application/json"}, data=prepared.content)
    credentials = Credentials(key, secret, token[0] if token else None)
    SigV4Auth(credentials, "bedrock", region[1] if region else _REGION).add_auth(request)
    return {name: value for name, value in request.headers.items() if name != "Content-Type"}


# Streams


async def frames(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each message of a binary event stream as `{its type: its payload}`; what is no such stream ends it unreadably."""
    begun = bytearray()
    async for piece in received:
        begun += piece
        while len(begun) >= _PRELUDE_BYTES:
            size = int.from_bytes(begun[:4], "big")
            if crc32(begun[:8]) != int.from_bytes(begun[8:_PRELUDE_BYTES], "big"):
                raise ValueError("not a message of an event stream")
            if size > LONGEST_EVENT:
                raise ValueError("a message without end")
            if len(begun) < size:
                break
            yield _framed(_message(bytes(begun[:size])))
            del begun[:size]


def _message(raw: bytes) -> EventStreamMessage:
    """ValueError: it is none. Whole, because botocore copies what it has with every piece."""
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    try:
        return next(buffer)
    except (ParserError, StopIteration) as error:
        raise ValueError("not a message of an event stream") from error


def _framed(message: EventStreamMessage) -> bytes:
    kind = message.headers.get(":message-type")
    if kind == "event":
        return b'{"%s":%s}' % (str(message.headers.get(":event-type")).encode(), message.payload)
    # An exception has a payload, an error says all in its headers.
    name = message.headers.get(":exception-type") or message.headers.get(":error-code") or "error"
    told = message.payload.decode(errors="replace") or message.headers.get(":error-message", "")
    return json.dumps({"exception": {"type": name, "payload": told}}).encode()
