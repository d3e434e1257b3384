"""Data URLs say of what type their bytes are, whatever they said when they came."""

import base64
import random

import pytest

from shared.contracts.chat import ChatMessage
from shared.contracts.data_urls import image_media_type, with_true_media_type

IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n" + b"\0" * 20,
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF" + b"\0" * 20,
    "image/gif": b"GIF89a\x01\0\x01\0" + b"\0" * 20,
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 20,
}
OTHER_WORDS = ("image/jpg", "image/unknown", "application/octet-stream", "text/plain", "", "IMAGE/BMP")


def url(declared: str, content: bytes) -> str:
    return f"data:{declared};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize("declared", [*IMAGES, *OTHER_WORDS])
@pytest.mark.parametrize("true_type", IMAGES)
def test_the_type_is_that_of_the_bytes(true_type: str, declared: str) -> None:
    content = IMAGES[true_type]
    assert with_true_media_type(url(declared, content)) == url(true_type, content)
    assert image_media_type(content) == true_type


@pytest.mark.parametrize("size", range(40))
def test_bytes_of_no_known_format_are_left_alone(size: int) -> None:
    content = random.Random(size).randbytes(size)  # noqa: S311
    for declared in ("image/png", "image/svg+xml", "application/pdf"):
        assert with_true_media_type(url(declared, content)) == url(declared, content)
    assert with_true_media_type(url("image/jpg", content)) == url("image/jpeg", content)


@pytest.mark.parametrize("true_type", IMAGES)
def test_a_beginning_that_is_cut_off_decides_nothing(true_type: str) -> None:
    for length in range(3 if true_type != "image/jpeg" else 2):
        assert with_true_media_type(url("image/bmp", IMAGES[true_type][:length])).startswith("data:image/bmp;")


def test_parameters_stay_and_the_alphabet_for_addresses_is_read() -> None:
    content = IMAGES["image/jpeg"]
    data = base64.urlsafe_b64encode(content).decode().rstrip("=")
    sent = f"DATA:image/png;name=a.png;base64,{data}"
    assert with_true_media_type(sent) == f"data:image/jpeg;name=a.png;base64,{data}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "data:",
            "https://example.org/cat.png",
            "data:image/png,plain",
            "data:image/png;base64",
            "see data:;base64,",
        ),
        *("data:image/png;base64,", "data:image/png;base64,!!!!", "data:" + "x" * 200 + ";base64,iVBORw0KGgo="),
    ],
)
def test_what_is_no_data_url_of_an_image_is_left_alone(text: str) -> None:
    assert with_true_media_type(text) == text


def test_only_the_first_bytes_of_a_url_are_looked_at() -> None:
    long = url("image/jpg", IMAGES["image/png"]) + "not base64 at all" * 10
    assert with_true_media_type(long) == long.replace("image/jpg", "image/png")
    assert with_true_media_type("data:image/jpg;base64,token", "iVBORw0KGgo=") == "data:image/png;base64,token"


def test_every_image_part_of_a_message_has_its_true_type() -> None:
    sent = url("image/jpeg", IMAGES["image/png"])
    parts = [{"type": "image_url", "image_url": {"url": sent}}, {"type": "text", "text": sent}]
    message = ChatMessage.model_validate({"role": "user", "content": parts})
    content = message.model_dump(exclude_none=True)["content"]
    assert content[0]["image_url"]["url"] == url("image/png", IMAGES["image/png"])
    assert content[1]["text"] == sent, "a text is no image"
