"""Bodies are read for callers with a valid key, while there is room, which organisations share."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from services.gateway.requests import json_size
from services.gateway.requests.admission import BodyRoom
from shared.errors import Unavailable
from tests.unit.gateway.requests.fakes import LARGE_DATA, ROOM_BYTES, FakeBlobs, chunks, data_url


@pytest.mark.parametrize("declared", [{"Content-Length": "1500011"}, {}], ids=["declared", "unknown"])
@pytest.mark.parametrize("key", ["", "bad"], ids=["no key", "wrong key"])
async def test_nothing_of_a_large_body_is_read_without_a_valid_key(
    client: httpx.AsyncClient, room: BodyRoom, declared: dict[str, str], key: str
) -> None:
    sent: list[int] = []
    headers = {"Content-Type": "application/json", "X-API-KEY": key, **declared}
    refused = await client.post("/echo", content=chunks(sent), headers=headers)
    assert refused.status_code == 401
    assert set(refused.json()["detail"]) == {"type", "message", "code", "origin"}
    assert refused.json()["detail"]["type"] == "authentication_error"
    assert sent == []
    assert room.free == ROOM_BYTES
    headers["X-API-KEY"] = "good"
    assert (await client.post("/echo", content=chunks(sent), headers=headers)).status_code == 200
    assert sent


async def test_the_key_is_checked_before_anything_of_a_body_is_read(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json", "X-API-KEY": "bad"}
    assert (await client.post("/echo", content=b"{", headers=headers)).status_code == 401
    assert (await client.post("/echo", content=b"{", headers=headers | {"X-API-KEY": "good"})).status_code == 422


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, identity", "x"])
async def test_an_encoded_body_is_refused_unread(client: httpx.AsyncClient, encoding: str) -> None:
    sent: list[int] = []
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    refused = await client.post("/echo", content=chunks(sent), headers=headers)
    assert (refused.status_code, refused.json()["detail"]["type"]) == (415, "unsupported_media_type_error")
    assert sent == []
    headers["Content-Encoding"] = "identity"
    assert (await client.post("/echo", content=b"{}", headers=headers)).status_code == 200


async def test_what_is_declared_holds_no_room(client: httpx.AsyncClient, room: BodyRoom) -> None:
    """Idle uploads of any length take nothing from others: only what has arrived does."""
    waiting = asyncio.Event()

    async def idle() -> AsyncIterator[bytes]:
        yield b'{"url": "'
        await waiting.wait()
        yield b'"}'

    headers = {"Content-Type": "application/json", "Content-Length": str(ROOM_BYTES)}
    uploads = [asyncio.create_task(client.post("/echo", content=idle(), headers=headers)) for _ in range(20)]
    arrived = 20 * len('{"url": "')
    async with asyncio.timeout(10):
        while ROOM_BYTES - room.free < arrived:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
    assert ROOM_BYTES - room.free == arrived
    assert (await client.post("/echo", json={"url": data_url(LARGE_DATA)})).status_code == 200
    waiting.set()
    assert {answer.status_code for answer in await asyncio.gather(*uploads)} == {200}
    assert room.free == ROOM_BYTES


def test_an_organisation_holds_at_most_what_is_free_for_others() -> None:
    room = BodyRoom(100)
    room.resize("a", 0, 50)
    with pytest.raises(Unavailable):
        room.resize("a", 0, 1)
    room.resize("b", 0, 25)
    with pytest.raises(Unavailable):
        room.resize("b", 0, 1)
    room.resize("c", 0, 12)
    assert room.free == 13
    room.resize("a", 50, 10)
    room.resize("b", 25, 30)
    for organisation, size in (("a", 10), ("b", 30), ("c", 12)):
        room.resize(organisation, size, 0)
    assert (room.free, room._held) == (100, {})


async def test_large_bodies_of_one_organisation_are_bounded_and_leave_room_for_another(
    client: httpx.AsyncClient, blobs: FakeBlobs, room: BodyRoom
) -> None:
    blobs.may_finish.clear()
    body = {"url": data_url(LARGE_DATA)}
    stored = [asyncio.create_task(client.post("/echo", json=body)) for _ in range(2)]
    async with asyncio.timeout(10):
        while len(blobs.calls) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        refused = await client.post("/echo", json=body)
    assert refused.status_code == 503
    assert refused.json()["detail"]["type"] == "service_unavailable_error"
    assert int(refused.headers["Retry-After"]) >= 1
    headers = {"Content-Type": "application/json"}
    sent: list[int] = []
    assert (await client.post("/echo", content=chunks(sent), headers=headers)).status_code == 503
    assert len(sent) < 25, "a body is read until there is no room for more"
    other = {"X-API-KEY": "another"}
    refused_before = len(blobs.calls)
    another = asyncio.create_task(client.post("/echo", json=body, headers=other))
    async with asyncio.timeout(10):
        while len(blobs.calls) == refused_before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await client.post("/echo", json={"url": "small"})).status_code == 200
    blobs.may_finish.set()
    assert [answer.status_code for answer in await asyncio.gather(*stored, another)] == [200, 200, 200]
    assert (await client.post("/echo", json=body)).status_code == 200
    assert room.free == ROOM_BYTES


async def test_the_room_for_images_is_free_when_they_are_stored(client: httpx.AsyncClient) -> None:
    taken = ROOM_BYTES - (await client.post("/room", json={"url": data_url(LARGE_DATA)})).json()
    assert 0 < taken < 1000, "what is parsed takes room until the answer"


async def test_the_room_is_free_after_every_error(
    client: httpx.AsyncClient, blobs: FakeBlobs, room: BodyRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_type = {"Content-Type": "application/json"}
    assert (await client.post("/echo", content=b" " * 1_500_000, headers=json_type)).status_code == 422
    assert (await client.post("/echo", json={"url": data_url(LARGE_DATA), "number": "many"})).status_code == 422
    assert (await client.post("/echo", content=LARGE_DATA, headers={"Content-Type": "text/plain"})).status_code == 422
    blobs.away = True
    assert (await client.post("/echo", json={"url": data_url(LARGE_DATA)})).status_code == 503
    monkeypatch.setattr(json_size, "MAX_TEXT_BYTES", 1000)
    assert (await client.post("/echo", json={"url": "x" * 100_000})).status_code == 413
    del client.headers["X-Permitted"]
    assert (await client.post("/echo", json={"url": data_url(LARGE_DATA)})).status_code == 403
    assert room.free == ROOM_BYTES
