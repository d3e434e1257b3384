"""Calls in hand end when their key becomes invalid, and only then."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import HTTPConnection

from services.gateway.authentication.authenticator import Authenticator
from services.gateway.settings import Settings
from shared.bus import Bus
from shared.contracts.access.authentication import AccessChanged, Authenticate
from shared.contracts.principal import Principal
from shared.errors import Problem, Unauthenticated, Unavailable

CHANGED = AccessChanged(organisation="tm_1", what="key revoked")


class FakeBus:
    """Knows every key as one of `tm_1` until `answer` says otherwise."""

    def __init__(self) -> None:
        self.answer: Problem | None = None
        self.requests = 0
        self.valid_until: datetime | None = None

    async def request(self, _: Authenticate) -> Principal:
        self.requests += 1
        if self.answer is not None:
            raise self.answer
        return Principal(organisation="tm_1", key_id="key_1", role="Member", valid_until=self.valid_until)


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
async def authenticator(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Authenticator]:
    monkeypatch.setattr("services.gateway.authentication.authenticator._RETRY_SECONDS", 0.02)
    settings = cast("Settings", SimpleNamespace(caller_fresh_seconds=30.0, caller_stale_seconds=30.0, public_url=None))
    authenticator = Authenticator(cast("Bus", bus), settings)
    watching = asyncio.create_task(authenticator.cut_off_revoked())
    yield authenticator
    watching.cancel()
    assert authenticator._in_hand == {}, "nothing is kept of a call that has ended"


def request(key: str = "one") -> HTTPConnection:
    return HTTPConnection({"type": "http", "method": "POST", "headers": [(b"x-api-key", key.encode())]})


async def call(authenticator: Authenticator) -> Any:
    sent = request()
    await authenticator.authenticate_request(sent)
    async with authenticator.until_revoked(sent):
        await asyncio.sleep(60)


async def started(authenticator: Authenticator) -> "asyncio.Task[Any]":
    task = asyncio.create_task(call(authenticator))
    await asyncio.sleep(0.02)
    return task


async def test_calls_end_when_their_key_is_revoked(bus: FakeBus, authenticator: Authenticator) -> None:
    calls = [await started(authenticator) for _ in range(3)]
    bus.answer = Unauthenticated("revoked")
    authenticator._on_access_changed(CHANGED)
    for task in calls:
        with pytest.raises(Unauthenticated, match="revoked during the call"):
            await asyncio.wait_for(task, 1)


async def test_calls_go_on_after_another_change(bus: FakeBus, authenticator: Authenticator) -> None:
    task = await started(authenticator)
    authenticator._on_access_changed(CHANGED)
    await asyncio.sleep(0.05)
    assert not task.done()
    assert bus.requests == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_a_reconnect_every_key_in_hand_is_authenticated_again(
    bus: FakeBus, authenticator: Authenticator
) -> None:
    task = await started(authenticator)
    bus.answer = Unauthenticated("revoked meanwhile")
    authenticator._on_access_changed(None)
    with pytest.raises(Unauthenticated):
        await asyncio.wait_for(task, 1)


async def test_while_authz_is_away_calls_go_on_and_their_keys_are_tried_again(
    bus: FakeBus, authenticator: Authenticator
) -> None:
    task = await started(authenticator)
    bus.answer = Unavailable("authz is away")
    authenticator._on_access_changed(CHANGED)
    await asyncio.sleep(0.1)
    assert not task.done()
    bus.answer = Unauthenticated("revoked")
    with pytest.raises(Unauthenticated):
        await asyncio.wait_for(task, 1)


async def test_a_timeout_of_the_call_itself_stays_one(authenticator: Authenticator) -> None:
    sent = request()
    await authenticator.authenticate_request(sent)
    with pytest.raises(TimeoutError):
        async with authenticator.until_revoked(sent):
            raise TimeoutError


async def test_a_caller_is_not_trusted_longer_than_authz_can_be_asked(bus: FakeBus) -> None:
    settings = cast("Settings", SimpleNamespace(caller_fresh_seconds=0.0, caller_stale_seconds=0.3, public_url=None))
    authenticator = Authenticator(cast("Bus", bus), settings)
    assert (await authenticator.authenticate_request(request())).role == "Member"
    bus.answer = Unavailable("authz is away")
    assert (await authenticator.authenticate_request(request())).role == "Member"
    await asyncio.sleep(0.31)
    with pytest.raises(Unavailable):
        await authenticator.authenticate_request(request())
    bus.answer = None
    assert (await authenticator.authenticate_request(request())).role == "Member"


async def test_a_key_that_expires_is_refused_although_its_caller_is_remembered(
    bus: FakeBus, authenticator: Authenticator
) -> None:
    bus.valid_until = datetime.now(UTC) + timedelta(seconds=0.1)
    task = await started(authenticator)
    await asyncio.sleep(0.1)
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticator.authenticate_request(request())
    assert bus.requests == 1
    authenticator._on_access_changed(CHANGED)
    with pytest.raises(Unauthenticated):
        await asyncio.wait_for(task, 1)
