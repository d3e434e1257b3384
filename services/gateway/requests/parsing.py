"""Parses request bodies: JSON of bounded depth, finite numbers and bounded text, without provider keys and images."""

import asyncio
import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from pydantic_core import from_json

from services.gateway.requests.images import OffloadedImages, offload_images
from services.gateway.requests.redaction import get_provider_api_keys, redact
from shared.blobs import MIN_BYTES
from shared.errors import TooLarge

MAX_DEPTH = 128
"""Levels of nesting. Bus messages and documents wrap a body in a few levels of their own."""
MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Of a body without offloaded images. Below the bus's 8 MB message limit, because a log can grow by its template."""
THREAD_BYTES = 1024 * 1024
"""Parsing a body larger than this would block the event loop for too long, so it is done in a thread."""
_EXECUTOR = ThreadPoolExecutor(1, thread_name_prefix="large bodies")
"""One thread: several are no faster because of the GIL, and would hold the memory of several bodies at a time."""


class ParsedBody(NamedTuple):
    """A request body after parsing."""

    content: Any
    """The JSON value without provider keys; large images are replaced by their tokens."""
    provider_api_keys: Any
    """The top-level field as sent, not validated."""
    images: OffloadedImages | None


def parse_body(raw: bytes) -> ParsedBody:
    """Parse `raw`, remove the provider keys and offload the images.

    Raises JSONDecodeError if it is no JSON, too deep, or has a number that is not finite; TooLarge if the text without
    images exceeds `MAX_TEXT_BYTES`.
    """
    try:
        content = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise _decode_error(str(error), raw) from error
    provider_api_keys = get_provider_api_keys(content)
    images = offload_images(content) if _redact_and_check(content, raw) else None
    text_bytes = len(raw) - (images.size if images else 0)
    if text_bytes > MAX_TEXT_BYTES:
        raise TooLarge(
            f"The text of this request takes {text_bytes:,} bytes, at most {MAX_TEXT_BYTES:,} fit; send less. Images "
            f"as base64 data URLs of {MIN_BYTES:,} bytes and more are not counted."
        )
    return ParsedBody(content, provider_api_keys, images)


async def parse_body_in_thread(raw: bytes) -> ParsedBody:
    """Parse a body of more than `THREAD_BYTES`, one at a time. Raises the errors of `parse_body`."""
    return await asyncio.get_running_loop().run_in_executor(_EXECUTOR, parse_body, raw)


def _redact_and_check(content: Any, raw: bytes) -> bool:  # noqa: ANN401 - any JSON
    """Redact every object and return whether a string is long enough to be a large image; one traversal for all.

    Raises JSONDecodeError for what later steps could not encode: more than `MAX_DEPTH` levels, and infinity, as which
    1e999 is parsed and which JSON cannot express.
    """
    level, has_long_string = [content], False
    for _ in range(MAX_DEPTH):
        next_level: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                has_long_string = has_long_string or len(item) > MIN_BYTES
            elif kind is dict:
                redact(item)
                next_level.extend(item.values())
            elif kind is list:
                next_level.extend(item)
            elif kind is float and math.isinf(item):
                raise _decode_error("a number is too large to be kept", raw)
        if not next_level:
            return has_long_string
        level = next_level
    raise _decode_error(f"nested more than {MAX_DEPTH} levels deep", raw)


def _decode_error(message: str, raw: bytes) -> json.JSONDecodeError:
    return json.JSONDecodeError(message, raw.decode(errors="replace"), 0)
