"""The application of `fakes.py`, and a client with a valid key."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.gateway.requests.admission import BodyRoom
from tests.unit.gateway.requests.fakes import ROOM_BYTES, FakeBlobs, create_app


@pytest.fixture
def blobs() -> FakeBlobs:
    return FakeBlobs()


@pytest.fixture
def room() -> BodyRoom:
    return BodyRoom(ROOM_BYTES)


@pytest.fixture
async def client(blobs: FakeBlobs, room: BodyRoom) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(blobs, room), raise_app_exceptions=False)
    headers = {"X-Permitted": "yes", "X-API-KEY": "good"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway/v4", headers=headers) as client:
        yield client
