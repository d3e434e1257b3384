"""Which data URLs of a body are replaced by tokens, and which of them are to be saved."""

import hashlib
from typing import Any

import pytest

from services.gateway.requests.images import offload_images
from shared.blobs import MIN_BYTES

DATA = "iVBORw0KGgo+/-_=" * (MIN_BYTES // 16)
DIGEST = hashlib.sha256(DATA.encode()).hexdigest()
URL = f"data:image/png;base64,{DATA}"
URL_WITH_TOKEN = f"data:image/png;base64,everloop-blob:{DIGEST}"


def test_only_the_data_is_replaced_at_every_level() -> None:
    body: Any = {"url": URL, "list": ["short", [URL, 1, None, 2.5, True]], "again": {"deep": [{"er": URL}]}}
    offloaded = offload_images(body)
    assert body == {
        "url": URL_WITH_TOKEN,
        "list": ["short", [URL_WITH_TOKEN, 1, None, 2.5, True]],
        "again": {"deep": [{"er": URL_WITH_TOKEN}]},
    }
    assert offloaded.contents == {DIGEST: DATA.encode()}
    assert offloaded.size == 3 * len(DATA)


@pytest.mark.parametrize("prefix", ["data:image/png;name=a.png;base64,", "DATA:image/png;BASE64,"])
def test_the_prefix_stays_as_it_was_sent(prefix: str) -> None:
    body = [prefix + DATA]
    assert offload_images(body).contents == {DIGEST: DATA.encode()}
    assert body == [f"{prefix}everloop-blob:{DIGEST}"]


@pytest.mark.parametrize("declared", ["image/jpeg", "image/jpg", "application/octet-stream", "IMAGE/WEBP", ""])
def test_the_media_type_is_that_of_the_bytes(declared: str) -> None:
    body = {"messages": [f"data:{declared};name=a;base64,{DATA}"]}
    assert offload_images(body).contents == {DIGEST: DATA.encode()}
    assert body == {"messages": [f"data:image/png;name=a;base64,everloop-blob:{DIGEST}"]}


@pytest.mark.parametrize(
    "text",
    [
        URL[:-1],
        DATA,
        f"see {URL}",
        f"data:text/plain,{DATA}",
        f"data:image/png;base64;charset=utf-8,{DATA}",
        f"data:image/png;base64,{DATA}\n",
        f"data:image/png;base64,{DATA}é",
        f'data:image/png;base64,"{DATA}',
        f"data:image/png;base64,\\{DATA}",
        "data:" + "x" * 300 + f";base64,{DATA}",
        f"data:image/png;base64{DATA}",
        "data:image/png;base64," + " " * MIN_BYTES,
    ],
    ids=range(12),
)
def test_text_that_is_no_large_base64_data_url_stays(text: str) -> None:
    body = {"text": text}
    assert offload_images(body).contents == {}
    assert body == {"text": text}


def test_different_data_has_different_tokens() -> None:
    other = URL.replace("iVBO", "jVBO", 1)
    body = [URL, other]
    offloaded = offload_images(body)
    assert len(offloaded.contents) == 2
    assert body[0] != body[1]


def test_nothing_is_replaced_in_a_body_that_is_a_string() -> None:
    assert offload_images(URL).contents == {}


@pytest.mark.parametrize("save", [False, "false", "no", 0])
def test_images_of_a_log_that_is_not_saved_are_returned_apart(save: Any) -> None:
    other = DATA[::-1]
    url = f"data:image/png;base64,{other}"
    body: Any = {"save": save, "inputs": {"a": URL, "b": url}, "messages": [{"content": URL}], "metadata": {"c": url}}
    offloaded = offload_images(body)
    assert (offloaded.unsaved, set(offloaded.contents.values())) == ({DIGEST: DATA.encode()}, {other.encode()})
    assert offloaded.size == 4 * len(DATA)
    assert list(body) == ["save", "inputs", "messages", "metadata"]
    assert body["messages"] == [{"content": URL_WITH_TOKEN}]


@pytest.mark.parametrize("save", [True, None, "yes", "nonsense", []])
def test_images_are_saved_unless_save_is_false(save: Any) -> None:
    offloaded = offload_images([{"save": save, "output": URL}, {"save": False, "project": URL}])
    assert (offloaded.unsaved, offloaded.contents) == ({}, {DIGEST: DATA.encode()})


def test_each_log_of_an_array_has_its_own_save() -> None:
    offloaded = offload_images([{"save": False, "output": URL}, {"save": True, "output": URL[:-2] + "++"}])
    assert (list(offloaded.unsaved), len(offloaded.contents)) == ([DIGEST], 1)


def test_images_in_fields_that_are_stored_always_are_saved_with_save_false() -> None:
    saved, unsaved = (
        ["config", "model_config", "metadata", "feedback"],
        ["judgment", "response_format", "user", "output"],
    )
    urls = {name: f"data:image/png;base64,{name.replace('_', '/'):x<{MIN_BYTES}}" for name in saved + unsaved}
    offloaded = offload_images({"save": False} | {name: [{"its": url}] for name, url in urls.items()})
    assert {content[:6] for content in offloaded.contents.values()} == {b"config", b"model/", b"metada", b"feedba"}
    assert {content[:6] for content in offloaded.unsaved.values()} == {b"judgme", b"respon", b"userxx", b"output"}
