"""When images of a body are stored, and that answers have them inlined."""

import httpx
import pytest

from services.gateway.requests.admission import BodyRoom
from tests.unit.gateway.requests.fakes import DATA, LARGE_DATA, ROOM_BYTES, FakeBlobs, data_url


@pytest.mark.parametrize("data", [DATA, LARGE_DATA], ids=["small", "large"])
async def test_an_endpoint_gets_tokens_and_its_caller_gets_images(
    client: httpx.AsyncClient, blobs: FakeBlobs, data: str
) -> None:
    answer = await client.post("/echo", json={"url": data_url(data), "provider_api_keys": {"openai": "sk"}})
    assert answer.status_code == 200
    assert answer.json()["url"] == data_url(data)
    assert answer.json()["length"] < 200
    assert answer.json()["keys"] == {"openai": "sk"}
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-type"] == "application/json"
    assert blobs.calls == ["store", "endpoint"]
    assert list(blobs.contents.values()) == [data.encode()]


async def test_no_image_of_a_refused_request_is_stored(client: httpx.AsyncClient, blobs: FakeBlobs) -> None:
    assert (await client.post("/echo", json={"url": data_url(), "number": "many"})).status_code == 422
    del client.headers["X-Permitted"]
    assert (await client.post("/echo", json={"url": data_url()})).status_code == 403
    assert blobs.calls == []


async def test_unsaved_images_are_stored_temporarily_and_only_for_routes_that_use_them(
    client: httpx.AsyncClient, blobs: FakeBlobs
) -> None:
    body = {"save": False, "inputs": {"picture": data_url()}}
    assert (await client.post("/save", json=body)).status_code == 200
    assert blobs.calls == []
    assert (await client.post("/echo", json=body)).status_code == 200
    assert blobs.calls == ["store temporarily", "endpoint"]


async def test_the_endpoint_of_a_deferred_images_route_decides_whether_images_are_stored(
    client: httpx.AsyncClient, blobs: FakeBlobs, room: BodyRoom
) -> None:
    assert (await client.post("/defer", json={"url": data_url()})).json() < 200
    assert (blobs.calls, blobs.contents, room.free) == (["endpoint"], {}, ROOM_BYTES)
    assert (await client.post("/defer", json={"url": data_url(), "number": 1})).json() < 200
    assert blobs.calls == ["endpoint", "endpoint", "store"]
    blobs.away = True
    assert (await client.post("/defer", json={"url": data_url(), "number": 1})).status_code == 503


async def test_a_request_whose_images_cannot_be_stored_is_refused(client: httpx.AsyncClient, blobs: FakeBlobs) -> None:
    blobs.away = True
    assert (await client.post("/echo", json={"url": data_url()})).status_code == 503
    assert blobs.calls == ["store"]


async def test_a_token_is_replaced_by_data_of_the_callers_own_organisation_only(
    client: httpx.AsyncClient, blobs: FakeBlobs
) -> None:
    await client.post("/echo", json={"url": data_url()})
    ((_, digest),) = blobs.contents
    token = f"everloop-blob:{digest}"
    assert (await client.get("/repeat", params={"text": f"<{token}>"})).json() == [f"<{DATA}>"] * 2
    other = await client.get("/repeat", params={"text": token}, headers={"X-API-KEY": "another"})
    assert other.json() == [token] * 2


async def test_an_answer_with_damaged_data_is_broken_off(client: httpx.AsyncClient, blobs: FakeBlobs) -> None:
    blobs.damaged = True
    broken = await client.post("/echo", json={"url": data_url()})
    assert b"QUJD" not in broken.content
    assert len(broken.content) < int(broken.headers["content-length"])  # a real connection breaks off here
