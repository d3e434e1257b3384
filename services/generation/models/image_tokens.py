"""What an image costs in tokens, by the rule OpenAI publishes: a base, and so much a tile of 512 pixels.

https://platform.openai.com/docs/guides/images-vision#calculating-costs, 2025-10. For other vendors it is an estimate.
"""

import re
import struct
from base64 import b64decode
from math import ceil

from shared.contracts.chat import ImageUrl

_BASE_AND_TILE = (
    (re.compile(r"gpt-4o-mini"), 2833, 5667),
    (re.compile(r"gpt-5|gpt-6"), 70, 140),
    (re.compile(r"o[13]\b"), 75, 150),
    (re.compile(""), 85, 170),
)
"""Tokens by model; the first that fits. Models that count patches of 32 pixels (o4-mini, gpt-4.1-mini) are guessed."""
_LONGEST, _SHORTEST, _TILE = 2048, 768, 512
"""Pixels: the image is fitted into a square of the first, its shorter side brought down to the second."""
_UNKNOWN = (1024, 1024)
"""Taken for an image whose size is not known, because only its address is."""
_HEAD = 65_536
"""Characters of base64 in which the size must stand."""


def count(model: str, image: ImageUrl) -> int:
    """Tokens of one image. `auto` counts as `high`, which is what models choose for all but small images."""
    base, tile = next((base, tile) for pattern, base, tile in _BASE_AND_TILE if pattern.search(model.lower()))
    return base if image.detail == "low" else base + tile * _tiles(*(size(image.url) or _UNKNOWN))


def _tiles(width: int, height: int) -> int:
    shrink = min(1.0, _LONGEST / max(width, height))
    shrink *= min(1.0, _SHORTEST / (min(width, height) * shrink))
    return ceil(round(width * shrink) / _TILE) * ceil(round(height * shrink) / _TILE)


def size(url: str) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF or JPEG in a data URL, from its head. None: not told, or not sound."""
    head, comma, data = url[: _HEAD + 100].partition(",")
    if not comma or head[:5].lower() != "data:":
        return None
    try:
        width, height = _read(b64decode(data[: len(data) // 4 * 4]))
    except (ValueError, struct.error, IndexError):
        return None
    return (width, height) if width and height else None


def _read(image: bytes) -> tuple[int, int]:
    if image.startswith(b"\x89PNG"):
        return struct.unpack(">II", image[16:24])
    if image.startswith(b"GIF8"):
        return struct.unpack("<HH", image[6:10])
    if image.startswith(b"\xff\xd8"):
        return _read_jpeg(image)
    raise ValueError("not a format whose head we read")


def _read_jpeg(image: bytes) -> tuple[int, int]:
    """The frame header, SOF0 to SOF15 but 4, 8 and 12: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.2."""
    at = 2
    while True:
        marker, length = image[at + 1], int(struct.unpack(">H", image[at + 2 : at + 4])[0])
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", image[at + 5 : at + 9])
            return int(width), int(height)
        at += 2 + length
