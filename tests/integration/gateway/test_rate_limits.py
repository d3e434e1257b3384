"""Two gateways and one authz, as processes on real servers, share the limits of requests."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from shared.contracts.access.keys import CreateKey
from tests.integration.gateway.replicas import gateway_replicas

LIMIT, ADDRESS_LIMIT = 200, 20
LEASES = 2 * 4
"""What both gateways may have left of a lease."""
SHORTEST_SECONDS = 25.0


def seconds_left(name: str) -> float:
    """Of the window of a name, as authz has it."""
    return 60 - (time.time() - int(name[:8], 16) % 60) % 60


@dataclass
class Gateways:
    clients: list[httpx.AsyncClient]
    keys: list[str]
    """Whose windows do not end soon."""


@pytest.fixture(scope="module")
async def gateways(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateways]:
    settings = {
        "EVERLOOP_HTTP_TRUSTED_PROXIES": "127.0.0.1",
        "EVERLOOP_RATE_PER_KEY": str(LIMIT),
        "EVERLOOP_RATE_PER_ADDRESS_UNAUTHENTICATED": str(ADDRESS_LIMIT),
    }
    async with gateway_replicas(tmp_path_factory.mktemp("rates"), **settings) as replicas:
        commands = [CreateKey(principal=replicas.admin, name=f"key {number}") for number in range(40)]
        keys = [(await replicas.bus.request(command)).secret for command in commands]
        yield Gateways(replicas.clients, keys)


def take_key(gateways: Gateways) -> str:
    for key in gateways.keys:
        if seconds_left(hashlib.sha256(key.encode()).hexdigest()) > SHORTEST_SECONDS:
            gateways.keys.remove(key)
            return key
    raise AssertionError("no key has a window that is long enough")


def take_address(network: int) -> str:
    for host in range(1, 250):
        address = f"198.51.{network}.{host}"
        if seconds_left(hashlib.sha256(address.encode()).hexdigest()) > SHORTEST_SECONDS:
            return address
    raise AssertionError("no address has a window that is long enough")


async def statuses(client: httpx.AsyncClient, count: int, headers: dict[str, str]) -> list[int]:
    return [(await client.get("/api/me", headers=headers)).status_code for _ in range(count)]


async def test_two_gateways_share_the_limit_of_a_key(gateways: Gateways) -> None:
    key, address = take_key(gateways), take_address(1)
    headers = {"X-API-KEY": key, "X-Forwarded-For": address}
    both = await asyncio.gather(*(statuses(client, 150, headers) for client in gateways.clients for _ in range(2)))
    found = Counter(status for each in both for status in each)
    assert set(found) == {200, 429}
    assert LIMIT - LEASES <= found[200] <= LIMIT

    refused = await gateways.clients[0].get("/api/me", headers=headers)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["detail"]["type"] == "rate_limit_error"
    assert "200 requests in a minute with one API key" in refused.json()["detail"]["message"]

    other = headers | {"X-API-KEY": take_key(gateways)}
    assert await statuses(gateways.clients[0], 3, other) == [200] * 3


async def test_a_flood_of_guessed_keys_is_bounded_and_keeps_out_nobody_who_is_known(gateways: Gateways) -> None:
    address, client = take_address(2), gateways.clients[0]
    known = {"X-API-KEY": take_key(gateways), "X-Forwarded-For": address}
    assert await statuses(client, 1, known) == [200]
    guesses = [
        gateways.clients[number % 2].get(
            "/api/me", headers={"X-API-KEY": f"hl_{number:048}", "X-Forwarded-For": address}
        )
        for number in range(80)
    ]
    found = Counter(answer.status_code for answer in await asyncio.gather(*guesses))
    assert set(found) == {401, 429}
    assert ADDRESS_LIMIT - 3 <= found[401] <= ADDRESS_LIMIT

    assert await statuses(client, 3, known) == [200] * 3
    assert await statuses(client, 1, known | {"X-API-KEY": take_key(gateways)}) == [429]
    setup = await client.get("/api/setup", headers={"X-Forwarded-For": address})
    assert setup.status_code == 429
    assert (await client.get("/healthz", headers={"X-Forwarded-For": address})).status_code == 200
    elsewhere = await client.get("/api/setup", headers={"X-Forwarded-For": take_address(3)})
    assert elsewhere.status_code == 200
