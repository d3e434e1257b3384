"""Replaces large images of a request body by tokens, stores them as blobs, and inlines them in answers.

Only the base64 data is replaced. What is left is a data URL with its media type, corrected if the bytes are of another,
so code that reads data URLs works on.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter, ValidationError

from shared.blobs import MIN_BYTES, TOKEN, Blobs
from shared.contracts.data_urls import with_true_media_type

_FIELDS_STORED_ALWAYS = frozenset({"config", "model_config", "metadata", "feedback"})
"""Fields of a log, or sent with it, that are stored also with `save: false` (behaviour.md §4.1)."""
_MAX_PREFIX_LENGTH = 256
"""Characters of a data URL up to its comma."""
_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_"
"""Standard and URL-safe. JSON escapes none of it, so data can be put back into JSON text."""
_BOOL = TypeAdapter(bool)
_SLICE_BYTES = 1024 * 1024
_TOKEN = TOKEN.encode()


class OffloadedImages(NamedTuple):
    """The images taken out of a body."""

    contents: dict[str, bytes]
    """Base64 text by its sha256 in hex."""
    unsaved: dict[str, bytes]
    """The same, of content with `save: false`; without those that are in `contents`."""
    size: int
    """Bytes taken out of the body in all; what occurs twice counts twice."""


def offload_images(body: Any) -> OffloadedImages:  # noqa: ANN401 - any JSON
    """Replace the data of every base64 data URL of at least `MIN_BYTES` in `body`, in place, by its token."""
    contents: dict[str, bytes] = {}
    unsaved: dict[str, bytes] = {}
    size = 0
    for log in body if isinstance(body, list) else [body]:
        if isinstance(log, dict) and not _is_saved(log):
            unsaved_fields = {name: value for name, value in log.items() if name not in _FIELDS_STORED_ALWAYS}
            size += _replace_data(unsaved_fields, unsaved)
            log.update(unsaved_fields)
    size += _replace_data(body, contents)
    return OffloadedImages(contents, {digest: unsaved[digest] for digest in unsaved.keys() - contents.keys()}, size)


async def store_images(blobs: Blobs, organisation: str, images: OffloadedImages, *, include_unsaved: bool) -> None:
    """Store `images`; with `include_unsaved` also, for a limited time, those of content with `save: false`.

    Raises Unavailable if some may not be stored.
    """
    if images.contents:
        await blobs.store(organisation, images.contents)
    if include_unsaved and images.unsaved:
        await blobs.store(organisation, images.unsaved, temporary=True)


def has_image_tokens(response: Response) -> bool:
    """Return whether the body of `response` has tokens; a streamed one has none."""
    return _TOKEN in getattr(response, "body", b"")


async def inline_images(blobs: Blobs, organisation: str, response: Response) -> Response:
    """Return `response` with the data its tokens stand for, streamed part by part. Raises Unavailable."""
    inlined = await blobs.inline(organisation, bytes(response.body))
    headers = {**response.headers, "content-length": str(inlined.size)}
    return StreamingResponse(inlined.chunks(), response.status_code, headers, background=response.background)


def _is_saved(log: dict[str, Any]) -> bool:
    try:
        return _BOOL.validate_python(log.get("save", True))  # as the schema reads it: "no" is false, too
    except ValidationError:
        return True


def _replace_data(body: Any, contents: dict[str, bytes]) -> int:  # noqa: ANN401 - any JSON
    """Add the replaced data to `contents`; return its size in bytes."""
    size = 0
    pending = [body]
    while pending:
        container = pending.pop()
        for key, value in _items(container):
            if not isinstance(value, str):
                pending.append(value)
            elif (split := _split_data_url(value)) is not None:
                prefix, content = split
                digest = hashlib.sha256(content).hexdigest()
                container[key] = with_true_media_type(f"{prefix}{TOKEN}{digest}", value[len(prefix) : len(prefix) + 64])
                contents[digest] = content
                size += len(content)
    return size


def _items(container: Any) -> Iterable[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
    if isinstance(container, dict):
        return container.items()
    return enumerate(container) if isinstance(container, list) else ()


def _split_data_url(text: str) -> tuple[str, bytes] | None:
    """Return the prefix including the comma, and the data; None if `text` is no base64 data URL of `MIN_BYTES`."""
    if len(text) < MIN_BYTES or text[:5].lower() != "data:":
        return None
    start = text.find(",", 0, _MAX_PREFIX_LENGTH) + 1
    if not text[:start].lower().endswith(";base64,") or len(text) - start < MIN_BYTES:
        return None
    try:
        content = text[start:].encode("ascii")
    except UnicodeEncodeError:
        return None
    # In slices: each holds the GIL for a moment only.
    for first in range(0, len(content), _SLICE_BYTES):
        if content[first : first + _SLICE_BYTES].translate(None, _BASE64_ALPHABET):
            return None
    return text[:start], content
