"""Counts the tokens of images by the rule OpenAI publishes: a base per image, and tokens per square tile of 512 pixels.

https://platform.openai.com/docs/guides/images-vision#calculating-costs, 2025-10. For other vendors it is an estimate.
"""

import re
import struct
from base64 import b64decode
from math import ceil

from shared.contracts.chat import ImageUrl

_TOKENS_OF_BASE_AND_TILE = (
    (re.compile(r"gpt-4o-mini"), 2833, 5667),
    (re.compile(r"gpt-5|gpt-6"), 70, 140),
    (re.compile(r"o[13]\b"), 75, 150),
    (re.compile(""), 85, 170),
)
"""By model name, first match; an estimate for models that count patches of 32 pixels (o4-mini, gpt-4.1-mini)."""
_MAX_LONGER_SIDE, _MAX_SHORTER_SIDE, _TILE_SIDE = 2048, 768, 512
"""Pixels. An image is scaled down until its sides fit the first two, then cut into tiles."""
_ASSUMED_SIZE = (1024, 1024)
"""Pixels of an image whose size is not known, as it is named by address or in another format."""
_HEADER_CHARACTERS = 65_536
"""Characters of base64 that are searched for the size."""


def count(model: str, image: ImageUrl) -> int:
    """Return the tokens of one image. `auto` counts as `high`, which models choose for all but small images."""
    base, tile = next((base, tile) for pattern, base, tile in _TOKENS_OF_BASE_AND_TILE if pattern.search(model.lower()))
    return base if image.detail == "low" else base + tile * _count_tiles(*(read_size(image.url) or _ASSUMED_SIZE))


def _count_tiles(width: int, height: int) -> int:
    scale = min(1.0, _MAX_LONGER_SIDE / max(width, height))
    scale *= min(1.0, _MAX_SHORTER_SIDE / (min(width, height) * scale))
    return ceil(round(width * scale) / _TILE_SIDE) * ceil(round(height * scale) / _TILE_SIDE)


def read_size(url: str) -> tuple[int, int] | None:
    """Return width and height in pixels of a PNG, GIF or JPEG in a data URL, read from the image's header.

    None for any other address, another format, or a header that cannot be read.
    """
    prefix, comma, data = url[: _HEADER_CHARACTERS + 100].partition(",")
    if not comma or prefix[:5].lower() != "data:":
        return None
    try:
        width, height = _read_header(b64decode(data[: len(data) // 4 * 4]))
    except (ValueError, struct.error, IndexError):
        return None
    return (width, height) if width and height else None


def _read_header(image: bytes) -> tuple[int, int]:
    if image.startswith(b"\x89PNG"):
        return struct.unpack(">II", image[16:24])
    if image.startswith(b"GIF8"):
        return struct.unpack("<HH", image[6:10])
    if image.startswith(b"\xff\xd8"):
        return _read_jpeg(image)
    raise ValueError("not a PNG, GIF or JPEG")


def _read_jpeg(image: bytes) -> tuple[int, int]:
    """Read the frame header, SOF0 to SOF15 but 4, 8 and 12: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.2."""
    offset = 2
    while True:
        marker, length = image[offset + 1], int(struct.unpack(">H", image[offset + 2 : offset + 4])[0])
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", image[offset + 5 : offset + 9])
            return int(width), int(height)
        offset += 2 + length
