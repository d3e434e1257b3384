"""Tokens of images by the examples OpenAI publishes; sizes read from the headers of image files."""

import struct
from base64 import b64encode

import pytest

from services.generation.models import image_tokens
from shared.contracts.chat import ImageUrl


def png(width: int, height: int) -> str:
    return _url(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06" + b"\x00" * 40)


def gif(width: int, height: int) -> str:
    return _url(b"GIF89a" + struct.pack("<HH", width, height) + b"\x00" * 40)


def jpeg(width: int, height: int) -> str:
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\x00" + b"\x00" * 9
    tables = b"\xff\xc4" + struct.pack(">H", 4) + b"\x00\x00"
    frame = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + b"\x00" * 20
    return _url(b"\xff\xd8" + app0 + tables + frame)


def _url(data: bytes) -> str:
    return "data:image/any;base64," + b64encode(data).decode()


@pytest.mark.parametrize("write", [png, gif, jpeg])
def test_the_size_is_read_from_the_header(write: object) -> None:
    assert callable(write)
    assert image_tokens.read_size(write(640, 480)) == (640, 480)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,%%%",
        "data:image/png;base64,é",
        _url(b"\x89PNG"),
        _url(b"GIF8"),
        _url(b"\xff\xd8"),
        _url(b"\xff\xd8\xff\xe0\x00\x00" + b"\xff" * 9),
        _url(b"RIFF____WEBP"),
        png(0, 10),
        "blob:sha256",
    ],
)
def test_an_address_or_a_broken_header_has_no_size(url: str) -> None:
    assert image_tokens.read_size(url) is None
    assert image_tokens.count("gpt-4o", ImageUrl(url=url)) == 765


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "tokens"),
    [
        ("gpt-4-vision-preview", 1024, 1024, "high", 765),
        ("gpt-4-vision-preview", 2048, 4096, "high", 1105),
        ("gpt-4-vision-preview", 4096, 8192, "low", 85),
        ("gpt-4o", 512, 512, "high", 255),
        ("gpt-4o", 128, 64, None, 255),
        ("gpt-4o", 128, 64, "auto", 255),
        ("gpt-4o-mini", 128, 64, "high", 8500),
        ("o3", 128, 64, "high", 225),
        ("gpt-5", 128, 64, "low", 70),
    ],
)
def test_the_published_rule(model: str, width: int, height: int, detail: str | None, tokens: int) -> None:
    image = ImageUrl.model_validate({"url": png(width, height), "detail": detail})
    assert image_tokens.count(model, image) == tokens
