"""Parses request bodies: JSON of bounded depth, finite numbers and bounded text, without provider keys and images."""

import asyncio
import codecs
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from pydantic_core import from_json

from services.gateway.requests.images import OffloadedImages, offload_images
from services.gateway.requests.json_errors import depth_error, non_finite_error, syntax_error
from services.gateway.requests.json_size import JsonSize, check_text_bytes, measure_json
from services.gateway.requests.redaction import get_provider_api_keys, redact
from shared.blobs import MIN_BYTES

MAX_DEPTH = 128
"""Levels of nesting. Bus messages and documents wrap a body in a few levels of their own."""
THREAD_BYTES = 256 * 1024
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


def parse_body(raw: bytes | bytearray) -> ParsedBody:
    """Parse `raw`, remove the provider keys and offload the images.

    A byte order mark is passed over. Raises InvalidJson if it is no JSON, too deep, or has a number that is not finite;
    TooLarge if there is too much text without the images.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        content = from_json(raw)
    except ValueError as error:
        raise syntax_error(str(error), raw) from error
    provider_api_keys = get_provider_api_keys(content)
    images = offload_images(content) if _redact_and_check(content) else None
    check_text_bytes(len(raw) - (images.size if images else 0))
    return ParsedBody(content, provider_api_keys, images)


async def parse_body_in_thread(raw: bytearray) -> ParsedBody:
    """Parse a body of more than `THREAD_BYTES`, one at a time. Raises the errors of `parse_body`."""
    return await asyncio.get_running_loop().run_in_executor(_EXECUTOR, parse_body, raw)


async def measure_body_in_thread(raw: bytearray) -> JsonSize:
    """Measure a body of more than `THREAD_BYTES`, one at a time. Raises TooLarge."""
    return await asyncio.get_running_loop().run_in_executor(_EXECUTOR, measure_json, raw)


def _redact_and_check(content: Any) -> bool:  # noqa: ANN401 - any JSON
    """Redact every object and return whether a string is long enough to be a large image; one traversal for all.

    Raises InvalidJson for what later steps could not encode: more than `MAX_DEPTH` levels, and NaN and infinity, which
    the parser reads, also from 1e999, and JSON cannot express.
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
            elif kind is float and not math.isfinite(item):
                raise non_finite_error(content)
        if not next_level:
            return has_long_string
        level = next_level
    raise depth_error(content, MAX_DEPTH)
