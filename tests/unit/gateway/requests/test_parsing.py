"""What of a body can be parsed, and how much text it may have."""

import json

import httpx
import pytest

from services.gateway.requests import json_size
from tests.unit.gateway.requests.fakes import FakeBlobs, data_url


@pytest.mark.parametrize("image", ["", data_url()], ids=["alone", "beside an image"])
async def test_the_text_of_a_body_is_limited_without_its_images(
    client: httpx.AsyncClient, blobs: FakeBlobs, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    monkeypatch.setattr(json_size, "MAX_TEXT_BYTES", 1000)
    refused = await client.post("/echo", json={"url": image, "text": "x" * 1000})
    assert refused.status_code == 413
    assert refused.json()["detail"]["type"] == "payload_too_large_error"
    assert "at most 1,000 fit" in refused.json()["detail"]["message"]
    assert (await client.post("/echo", json={"url": image, "text": "x" * 800})).status_code == 200
    assert len(blobs.calls) == (2 if image else 1)


@pytest.mark.parametrize("padding", [10, 1_500_000], ids=["small", "large"])
@pytest.mark.parametrize("raw", ["{", '{"url": 1e999}', "[" * 150 + "]" * 150], ids=["cut off", "infinite", "deep"])
async def test_an_unreadable_body_is_a_422(client: httpx.AsyncClient, padding: int, raw: str) -> None:
    refused = await client.post("/echo", content=" " * padding + raw, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["type"] == "json_invalid"


@pytest.mark.parametrize("size", [10, 1_500_000], ids=["small", "large"])
async def test_a_body_of_another_content_type_is_a_422(client: httpx.AsyncClient, size: int) -> None:
    content = json.dumps({"url": "x" * size})
    for headers in ({"Content-Type": "text/plain"}, {}):
        refused = await client.post("/echo", content=content, headers=headers)
        assert refused.status_code == 422
        (detail,) = refused.json()["detail"]
        assert detail["loc"] == ["header", "content-type"]
        assert "application/json" in detail["msg"]
