"""The application of `fakes.py`, and a client with a valid key."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.gateway.requests.admission import LargeBodyBudget
from tests.unit.gateway.requests.fakes import BUDGET_BYTES, FakeBlobs, create_app


@pytest.fixture
def blobs() -> FakeBlobs:
    return FakeBlobs()


@pytest.fixture
def budget() -> LargeBodyBudget:
    return LargeBodyBudget(BUDGET_BYTES)


@pytest.fixture
async def client(blobs: FakeBlobs, budget: LargeBodyBudget) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(blobs, budget), raise_app_exceptions=False)
    headers = {"X-Organisation": "tm_1", "X-API-KEY": "good"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway/v4", headers=headers) as client:
        yield client
