"""Large bodies are read for callers with a valid key, and within a budget."""

import asyncio

import httpx
import pytest

from services.gateway.requests import parsing
from services.gateway.requests.admission import MAX_UNAUTHENTICATED_BYTES, LargeBodyBudget
from tests.unit.gateway.requests.fakes import BUDGET_BYTES, LARGE_DATA, FakeBlobs, chunks, data_url


@pytest.mark.parametrize("declared", [{"Content-Length": "2000011"}, {}], ids=["declared", "unknown"])
@pytest.mark.parametrize("key", ["", "bad"], ids=["no key", "wrong key"])
async def test_nothing_of_a_large_body_is_read_without_a_valid_key(
    client: httpx.AsyncClient, budget: LargeBodyBudget, declared: dict[str, str], key: str
) -> None:
    sent: list[int] = []
    headers = {"Content-Type": "application/json", "X-API-KEY": key, **declared}
    refused = await client.post("/echo", content=chunks(sent), headers=headers)
    assert refused.status_code == 401
    assert set(refused.json()["detail"]) == {"type", "message", "code", "origin"}
    assert refused.json()["detail"]["type"] == "authentication_error"
    assert sent == []
    assert budget._free == BUDGET_BYTES
    headers["X-API-KEY"] = "good"
    assert (await client.post("/echo", content=chunks(sent), headers=headers)).status_code == 200
    assert sent


async def test_a_small_body_is_parsed_before_its_key_is_checked(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json", "X-API-KEY": "bad"}
    raw = b"{" + b" " * (MAX_UNAUTHENTICATED_BYTES - 1)
    assert (await client.post("/echo", content=raw, headers=headers)).status_code == 422
    assert (await client.post("/echo", content=raw + b" ", headers=headers)).status_code == 401


async def test_large_bodies_at_the_same_time_are_bounded_in_bytes(
    client: httpx.AsyncClient, blobs: FakeBlobs, budget: LargeBodyBudget
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
    assert len(sent) < 20, "a body of undeclared length is read until the budget is used up"
    assert (await client.post("/echo", json={"url": "small"})).status_code == 200
    blobs.may_finish.set()
    assert [answer.status_code for answer in await asyncio.gather(*stored)] == [200, 200]
    assert (await client.post("/echo", json=body)).status_code == 200
    assert budget._free == BUDGET_BYTES


async def test_the_budget_is_released_when_the_images_are_stored(client: httpx.AsyncClient) -> None:
    assert (await client.post("/budget", json={"url": data_url(LARGE_DATA)})).json() == BUDGET_BYTES


async def test_the_budget_is_released_after_every_error(
    client: httpx.AsyncClient, blobs: FakeBlobs, budget: LargeBodyBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_type = {"Content-Type": "application/json"}
    assert (await client.post("/echo", content=b" " * 2_000_000, headers=json_type)).status_code == 422
    assert (await client.post("/echo", json={"url": data_url(LARGE_DATA), "number": "many"})).status_code == 422
    assert (await client.post("/echo", content=LARGE_DATA, headers={"Content-Type": "text/plain"})).status_code == 422
    blobs.away = True
    assert (await client.post("/echo", json={"url": data_url(LARGE_DATA)})).status_code == 503
    monkeypatch.setattr(parsing, "MAX_TEXT_BYTES", 1000)
    assert (await client.post("/echo", json={"url": "x" * 100_000})).status_code == 413
    del client.headers["X-Organisation"]
    assert (await client.post("/echo", json={"url": data_url(LARGE_DATA)})).status_code == 403
    assert budget._free == BUDGET_BYTES
