"""Every gateway obeys a change of access at once, also one that was cut off from NATS when it happened."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from services.authz.credentials.random_secrets import hash_secret
from shared import ids
from shared.contracts.access.account import AddPerson
from shared.contracts.access.keys import CreateKey, NewKey, RevokeKey
from shared.contracts.access.members import ChangeRole
from shared.contracts.access.sessions import SignedIn, SignOut
from tests.integration.authz.stack import PASSWORD, browser, sign_in
from tests.integration.gateway.replicas import Replicas, gateway_replicas

STALE_SECONDS = 3.0
BOUND_SECONDS = 1.0
"""What a busy machine may take; alone it takes a few milliseconds."""


@pytest.fixture(scope="module")
async def replicas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    freshness = {"EVERLOOP_CALLER_FRESH_SECONDS": "2", "EVERLOOP_CALLER_STALE_SECONDS": str(STALE_SECONDS)}
    async with gateway_replicas(tmp_path_factory.mktemp("replicas"), **freshness) as replicas:
        yield replicas


async def new_key(replicas: Replicas) -> NewKey:
    return await replicas.bus.request(CreateKey(principal=replicas.admin, name=ids.mint("key"), role="Admin"))


async def new_session(replicas: Replicas) -> SignedIn:
    email = f"{ids.mint('who')}@example.org".lower()
    await replicas.bus.request(AddPerson(email=email, role="Member", password=PASSWORD))
    return await sign_in(replicas.bus, email)


async def get(client: httpx.AsyncClient, path: str = "/api/me", **headers: str) -> int:
    return (await client.get(path, headers=headers)).status_code


async def seconds_until(replicas: Replicas, status: int, path: str = "/api/me", **headers: str) -> list[float]:
    """How long after this call each gateway answers so."""
    started = time.monotonic()

    async def wait(client: httpx.AsyncClient) -> float:
        while await get(client, path, **headers) != status:
            assert time.monotonic() < started + 10, f"not {status} within 10 s"
        return time.monotonic() - started

    return list(await asyncio.gather(*map(wait, replicas.clients)))


async def test_a_revoked_key_is_refused_by_every_gateway(replicas: Replicas) -> None:
    took: list[float] = []
    for _ in range(10):
        key = await new_key(replicas)
        sent = {"X-API-KEY": key.secret}
        assert [await get(client, **sent) for client in replicas.clients] == [200, 200]
        await replicas.bus.request(RevokeKey(principal=replicas.admin, id=key.id))
        took += await seconds_until(replicas, 401, **sent)
    print(f"a revoked key was refused after {1000 * max(took):.0f} ms at most, answer included")
    assert max(took) < BOUND_SECONDS


async def test_an_ended_session_is_refused_by_every_gateway(replicas: Replicas) -> None:
    took: list[float] = []
    for _ in range(5):
        session = await new_session(replicas)
        sent = {"Cookie": f"everloop_session={session.secret}"}
        assert [await get(client, **sent) for client in replicas.clients] == [200, 200]
        await replicas.bus.request(SignOut(session_hash=hash_secret(session.secret), browser=browser()))
        took += await seconds_until(replicas, 401, **sent)
    print(f"an ended session was refused after {1000 * max(took):.0f} ms at most, answer included")
    assert max(took) < BOUND_SECONDS


async def test_a_changed_role_is_obeyed_by_every_gateway(replicas: Replicas) -> None:
    session = await new_session(replicas)
    sent, user_id = {"Cookie": f"everloop_session={session.secret}"}, session.principal.user_id or ""
    took: list[float] = []
    for role, status in (("Admin", 200), ("Member", 403)) * 3:
        change = ChangeRole.model_validate({"principal": replicas.admin, "user_id": user_id, "role": role})
        await replicas.bus.request(change)
        took += await seconds_until(replicas, status, "/api/organization", **sent)
    print(f"a changed role was obeyed after {1000 * max(took):.0f} ms at most, answer included")
    assert max(took) < BOUND_SECONDS


async def test_a_gateway_that_is_cut_off_serves_nobody_for_long_and_obeys_when_it_is_back(replicas: Replicas) -> None:
    key, kept = await new_key(replicas), await new_key(replicas)
    cut_off, other = replicas.clients
    for one in (key, kept):
        assert [await get(client, **{"X-API-KEY": one.secret}) for client in replicas.clients] == [200, 200]
    replicas.cables[0].cut()
    await replicas.bus.request(RevokeKey(principal=replicas.admin, id=key.id))
    assert await get(other, **{"X-API-KEY": key.secret}) == 401
    await asyncio.sleep(STALE_SECONDS)
    assert await get(cut_off, **{"X-API-KEY": key.secret}) == 503
    assert await get(cut_off, **{"X-API-KEY": kept.secret}) == 503
    replicas.cables[0].mend()
    await seconds_until(replicas, 200, **{"X-API-KEY": kept.secret})
    assert await get(cut_off, **{"X-API-KEY": key.secret}) == 401
