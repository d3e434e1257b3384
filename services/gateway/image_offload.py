"""Claim checks: large base64 data URLs are taken out of a body, and a token of each is left in it.

Only the data is exchanged. What is left is still a data URL with its media type, so what looks at it works on.
"""

import hashlib
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from shared.blobs import LEAST_BYTES, TOKEN

_KEPT = frozenset({"config", "model_config", "metadata", "feedback"})
"""What is stored of a log, or with it, also with `save: false` (behaviour.md §4.1)."""
_LONGEST_HEAD = 256
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_"
"""Of base64 and its variant for addresses. None of it is escaped in JSON, so data can be put back into JSON text."""
_BOOL = TypeAdapter(bool)
_SLICE_BYTES = 1024 * 1024


class OffloadedImages(NamedTuple):
    """What was taken out of a body."""

    contents: dict[str, bytes]
    """By sha256, hex."""
    unsaved: dict[str, bytes]
    """The same, of what `save: false` says shall not be kept."""
    size: int
    """Characters taken out in all; what stood there twice counts twice."""


def offload_images(body: Any) -> OffloadedImages:  # noqa: ANN401 - any JSON
    """Exchange the data of every large data URL in `body` for its token."""
    contents: dict[str, bytes] = {}
    unsaved: dict[str, bytes] = {}
    size = 0
    for log in body if isinstance(body, list) else [body]:
        if isinstance(log, dict) and not _to_be_saved(log):
            passing = {name: value for name, value in log.items() if name not in _KEPT}
            size += _exchange(passing, unsaved)
            log.update(passing)
    size += _exchange(body, contents)
    return OffloadedImages(contents, {digest: unsaved[digest] for digest in unsaved.keys() - contents.keys()}, size)


def _to_be_saved(log: dict[str, Any]) -> bool:
    try:
        return _BOOL.validate_python(log.get("save", True))  # as the schema reads it: "no" is no, too
    except ValidationError:
        return True


def _exchange(body: Any, contents: dict[str, bytes]) -> int:  # noqa: ANN401 - any JSON
    """Put into `contents` what is taken out; returns its size."""
    size = 0
    waiting = [body]
    while waiting:
        container = waiting.pop()
        for key, value in _entries(container):
            if not isinstance(value, str):
                waiting.append(value)
            elif (found := _data_of(value)) is not None:
                head, content = found
                digest = hashlib.sha256(content).hexdigest()
                container[key] = f"{head}{TOKEN}{digest}"
                contents[digest] = content
                size += len(content)
    return size


def _entries(container: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(container, dict):
        return container.items()
    return enumerate(container) if isinstance(container, list) else ()


def _data_of(text: str) -> tuple[str, bytes] | None:
    """The head up to and with the comma, and the data; None if `text` is no large data URL in base64."""
    if len(text) < LEAST_BYTES or text[:5].lower() != "data:":
        return None
    start = text.find(",", 0, _LONGEST_HEAD) + 1
    if not text[:start].lower().endswith(";base64,") or len(text) - start < LEAST_BYTES:
        return None
    try:
        content = text[start:].encode("ascii")
    except UnicodeEncodeError:
        return None
    # In slices: each holds up the other threads of the process for a moment only.
    for first in range(0, len(content), _SLICE_BYTES):
        if content[first : first + _SLICE_BYTES].translate(None, _ALPHABET):
            return None
    return text[:start], content
