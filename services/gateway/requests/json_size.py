"""Measures JSON before it is parsed: bytes of text, values, and the memory it will take. Nothing is built for that."""

import re
from typing import NamedTuple

from shared.blobs import MIN_BYTES
from shared.errors import TooLarge

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Of a body without images. Below the bus's 8 MB message limit, because a log can grow by its template."""
MAX_PARSED_BYTES = 64 * 1024 * 1024
"""Of the Python objects that a body becomes: a million numbers, or 120,000 objects with a field each. Text takes as
much as its JSON."""
_VALUE_BYTES, _ARRAY_BYTES, _OBJECT_BYTES = 56, 56, 480
"""What one takes: a reference with a number or a short string; more for an array; more for an object, which may become
a model. Measured with CPython 3.11 on x86-64; many different keys, or models, take up to twice as much."""
_DENSE_FACTOR = 4
_SMALL_BYTES = 2048
"""A body up to this size is not worth measuring."""
_ROUGH_BYTES = 4 * 1024 * 1024
"""An estimate up to this size may count what is inside of strings: fifty logs took a tenth longer with an exact one."""
_WINDOW_BYTES = 64 * 1024
"""What is looked at in one call, while no other thread runs."""
_IMAGE_START = b";base64,"
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_CHARACTERS = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""Of a string."""
_WHOLE_TOKENS = re.compile(rb'(?:[^"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)
"""Up to a string that does not end."""


class JsonSize(NamedTuple):
    """The size of a JSON text. Commas and brackets inside of strings count, too, unless there are many."""

    values: int
    parsed_bytes: int
    """An estimate of the memory of what it is parsed to."""


class _Counts:
    """Values, arrays and objects of JSON, by the characters that separate and open them."""

    def __init__(self) -> None:
        self.commas = self.arrays = self.objects = 0

    def add(self, text: bytes | bytearray) -> None:
        self.commas += text.count(b",")
        self.arrays += text.count(b"[")
        self.objects += text.count(b"{")

    def size(self, text_bytes: int) -> JsonSize:
        values = 1 + self.commas
        parsed_bytes = text_bytes + values * _VALUE_BYTES + self.arrays * _ARRAY_BYTES + self.objects * _OBJECT_BYTES
        return JsonSize(values, parsed_bytes)


def measure_json(raw: bytes | bytearray) -> JsonSize:
    """Return the size of the JSON text `raw`; it need not be valid.

    Raises TooLarge if its text, without images, takes more than `MAX_TEXT_BYTES`, or more than `MAX_PARSED_BYTES` once
    it is parsed. Takes time in proportion to the text, in calls of `_WINDOW_BYTES`.
    """
    if len(raw) <= _SMALL_BYTES:
        return JsonSize(0, len(raw))
    counts, text_bytes = _Counts(), 0
    for start, end in _texts(raw):
        text_bytes += end - start
        check_text_bytes(text_bytes)
        for position in range(start, end, _WINDOW_BYTES):
            counts.add(raw[position : min(position + _WINDOW_BYTES, end)])
    size = counts.size(text_bytes)
    if size.parsed_bytes > max(_ROUGH_BYTES, _DENSE_FACTOR * text_bytes):
        # Perhaps its strings are JSON, tables or templates.
        size = _measure_outside_strings(raw, text_bytes)
    return size


def check_text_bytes(text_bytes: int) -> None:
    """Raise TooLarge if the text of a body is over `MAX_TEXT_BYTES`."""
    if text_bytes > MAX_TEXT_BYTES:
        raise TooLarge(
            f"The text of this request takes {text_bytes:,} bytes or more, at most {MAX_TEXT_BYTES:,} fit; send less. "
            f"Images as base64 data URLs of {MIN_BYTES:,} bytes and more are not counted."
        )


def _texts(raw: bytes | bytearray) -> list[tuple[int, int]]:
    """Return the ranges of `raw` outside of what may be the base64 data of images; only base64 is taken for text."""
    ranges, start = [], 0
    while (found := raw.find(_IMAGE_START, start)) >= 0:
        data = found + len(_IMAGE_START)
        end = raw.find(b'"', data)
        if end < 0:
            break
        if end - data >= MIN_BYTES:
            ranges.append((start, data))
            start = end
        else:
            ranges.append((start, end))
            start = end
    return [*ranges, (start, len(raw))]


def _measure_outside_strings(raw: bytes | bytearray, text_bytes: int) -> JsonSize:
    """Return the size of `raw` without the commas and brackets inside of strings. Raises TooLarge."""
    counts, position = _Counts(), 0
    while position < len(raw):
        window_end = min(position + _WINDOW_BYTES, len(raw))
        tokens = _WHOLE_TOKENS.match(raw, position, window_end)
        end = tokens.end() if tokens else position
        if end > position:
            counts.add(_STRING.sub(b"", raw[position:end]))
            size = counts.size(text_bytes)
            if size.parsed_bytes > MAX_PARSED_BYTES:
                raise TooLarge(
                    f"The JSON of this request has more than {size.values:,} values, which take more than "
                    f"{MAX_PARSED_BYTES // 2**20} MiB; send fewer at once."
                )
        elif (end := _string_end(raw, position)) < 0:
            break  # the parser will say so
        position = end
    return counts.size(text_bytes)


def _string_end(raw: bytes | bytearray, start: int) -> int:
    """Return where the string ends that begins at `start`; -1 if it does not."""
    position = start + 1
    end = raw.find(b'"', position)
    if raw.find(b"\\", position, max(end, 0)) < 0:
        return end + 1 if end >= 0 else -1
    while (characters := _CHARACTERS.match(raw, position, position + _WINDOW_BYTES)) is not None:
        end = characters.end()
        if raw[end : end + 1] == b'"':
            return end + 1
        if end == position:
            break
        position = end
    return -1
