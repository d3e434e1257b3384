"""Leases are spent locally, end with their window, and are replaced by a local bound while authz is away."""

import logging
from typing import cast

import pytest

from services.gateway.requests import rate_limits
from services.gateway.requests.rate_limits import RateLimits
from shared.bus import Bus
from shared.contracts.access.authentication import LeaseRequests, RequestLease
from shared.errors import RateLimited, Unavailable

KEY, OTHER = "a" * 64, "b" * 64


class FakeAuthz:
    """Counts by scope and name in windows that end when a test says so."""

    def __init__(self) -> None:
        self.counted: dict[tuple[str, str], int] = {}
        self.asked = 0
        self.is_away = False
        self.seconds_left = 60.0

    async def request(self, command: LeaseRequests, *, timeout_seconds: float) -> RequestLease:
        self.asked += 1
        if self.is_away:
            raise Unavailable(f"no answer in {timeout_seconds} s")
        name = (command.scope, command.name)
        before = self.counted.get(name, 0)
        self.counted[name] = before + command.count
        granted = max(0, min(command.count, command.limit - before))
        return RequestLease(granted=granted, seconds_left=self.seconds_left)


class Clock:
    """What `time.monotonic` returns to the limits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def authz() -> FakeAuthz:
    return FakeAuthz()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limits, "time", clock)
    return clock


def limits(authz: FakeAuthz, per_key: int = 100, per_address: int = 100) -> RateLimits:
    return RateLimits(cast("Bus", authz), per_key=per_key, per_address=per_address)


async def accepted(limits: RateLimits, tries: int, key: str = KEY) -> int:
    count = 0
    for _ in range(tries):
        try:
            await limits.count_valid(key)
        except RateLimited:
            return count
        count += 1
    return count


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
async def test_exactly_the_limit_is_accepted(authz: FakeAuthz, limit: int) -> None:
    assert await accepted(limits(authz, limit), 2 * limit + 10) == limit


async def test_gateways_share_a_limit(authz: FakeAuthz) -> None:
    one, two = limits(authz, 1000), limits(authz, 1000)
    total = 0
    for _ in range(600):
        total += await accepted(one, 1) + await accepted(two, 1)
    assert total == 1000


async def test_a_lease_covers_many_requests_and_other_keys_count_apart(authz: FakeAuthz) -> None:
    one = limits(authz, 1000)
    assert await accepted(one, 2000) == 1000
    assert authz.asked <= 52
    assert await accepted(one, 10, OTHER) == 10


async def test_over_the_limit_authz_is_not_asked_again(authz: FakeAuthz, clock: Clock) -> None:
    one = limits(authz, 10)
    await accepted(one, 20)
    asked, clock.now = authz.asked, clock.now + 30
    with pytest.raises(RateLimited, match="10 requests in a minute") as refused:
        await one.count_valid(KEY)
    assert refused.value.retry_after_seconds == 30
    assert authz.asked == asked


async def test_a_lease_ends_with_its_window(authz: FakeAuthz, clock: Clock) -> None:
    one = limits(authz, 1000)
    await one.count_valid(KEY)
    clock.now += 60
    authz.counted.clear()
    assert await accepted(one, 2000) == 1000


async def test_without_authz_a_gateway_counts_alone(
    authz: FakeAuthz, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, rate_limits.__name__)
    authz.is_away = True
    one = limits(authz, 50)
    assert await accepted(one, 200) == 50
    assert await accepted(one, 200, OTHER) == 50
    assert authz.asked == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    authz.is_away, clock.now = False, clock.now + 61
    assert await accepted(one, 200) == 50
    assert authz.asked > 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_the_least_recently_used_are_dropped(authz: FakeAuthz, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_MAX_NAMES", 2)
    one = limits(authz)
    for key in (KEY, OTHER, KEY, "c" * 64):
        await one.count_valid(key)
    assert [one.is_known(key) for key in (KEY, OTHER, "c" * 64)] == [True, False, True]


async def test_a_request_is_given_back_to_its_own_window_only(authz: FakeAuthz, clock: Clock) -> None:
    one = limits(authz, per_address=1)
    window = await one.count_unauthenticated("192.0.2.1")
    one.give_back("192.0.2.1", window)
    await one.count_unauthenticated("192.0.2.1")
    clock.now += 60
    authz.counted.clear()
    await one.count_unauthenticated("192.0.2.1")
    one.give_back("192.0.2.1", window)
    with pytest.raises(RateLimited):
        await one.count_unauthenticated("192.0.2.1")


async def test_addresses_of_one_ipv6_network_count_together(authz: FakeAuthz) -> None:
    one = limits(authz, per_address=1)
    await one.count_unauthenticated("2001:db8::1")
    with pytest.raises(RateLimited):
        await one.count_unauthenticated("2001:db8::2")
    await one.count_unauthenticated("2001:db8:0:1::1")


async def test_zero_is_no_limit(authz: FakeAuthz) -> None:
    assert await accepted(limits(authz, 0), 500) == 500
    assert authz.asked == 0
