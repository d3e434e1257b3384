"""Data URLs of images (RFC 2397): their media type is what their bytes are, whatever type they declare.

Providers refuse an image whose declared type is another than its bytes, and browsers and phones declare wrong ones.
"""

import base64
import binascii
import re

_HEAD = re.compile(r"data:([^;,]{0,100})((?:;[^;,]{0,100})*;base64,)", re.IGNORECASE)
_SIGNATURE_CHARACTERS = 20
"""Of base64: 15 bytes, of which the longest signature takes 14."""
_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""Names that are no registered types and that browsers write (https://www.iana.org/assignments/media-types, 2026)."""
_SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBPVP", re.DOTALL), "image/webp"),
)
"""https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern (2026): the formats that providers take."""


def image_media_type(content: bytes | bytearray) -> str | None:
    """Return the media type of an image by its first bytes; None if they are of no format in `_SIGNATURES`."""
    return next((media_type for signature, media_type in _SIGNATURES if signature.match(content)), None)


def with_true_media_type(url: str, data: str | None = None) -> str:
    """Return a base64 data URL with the media type of its bytes; any other URL, and one of unknown bytes, unchanged.

    `data` is the base64 text if `url` has something else in its place; only its first characters are looked at.
    Parameters of the media type are kept.
    """
    if url[:5].lower() != "data:" or (head := _HEAD.match(url)) is None:
        return url
    declared = head[1].strip().lower()
    start = head.end()
    data_start = (url[start : start + _SIGNATURE_CHARACTERS] if data is None else data)[:_SIGNATURE_CHARACTERS]
    true_type = image_media_type(_decode(data_start)) or _ALIASES.get(declared, declared)
    return url if true_type == declared else f"data:{true_type}{head[2]}{url[start:]}"


def _decode(data: str) -> bytes:
    """Return the bytes of the first characters of base64 text, standard or URL-safe; nothing if it is none."""
    text = data.translate(_STANDARD_ALPHABET).rstrip("=")
    try:
        return base64.b64decode(text[: len(text) - (len(text) % 4 == 1)] + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
