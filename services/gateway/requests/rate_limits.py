"""Limits how many requests a caller sends in a minute, by leases of authz, which counts for all gateways.

A lease is a share of the window, counted ahead; the requests it covers are accepted without asking anybody. What is
left of it when the window ends is void, so all gateways together never accept more than the limit.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from shared.bus import Bus
from shared.contracts.access.authentication import LeaseRequests, RequestLease, network_of
from shared.errors import Problem, RateLimited

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60.0
LEASE_SHARE = 0.02
"""Of the limit, at least one request: what may be lost to each gateway at the end of a window."""
REFILL_SHARE = 0.25
"""Of a lease: when no more is left of it, the next one is requested while this one is used."""
_LEASE_TIMEOUT_SECONDS = 0.5
"""How long a request waits for a lease."""
_RETRY_SECONDS = 5.0
"""For so long authz is not asked again after it gave no lease."""
_MAX_NAMES = 20_000
"""Of one kind; the least recently used are dropped, and what is left of their leases with them."""
_NAME_CHARACTERS = 32
_SAME_WINDOW_SECONDS = 1.0
"""How much the told ends of one window differ at most: by the time that the answers took."""


@dataclass(slots=True)
class _Window:
    """What this gateway may still accept of one caller."""

    remaining: int = 0
    ends_at: float = 0.0
    """By the monotonic clock."""
    number: int = 0
    """Of the windows of this caller."""
    is_used_up: bool = False
    """Whether authz has no more to lease."""
    request: "asyncio.Task[None] | None" = None
    """The request for a lease that is under way."""


class _Away:
    """Whether authz gives leases; shared by the limits of a gateway, so that each is not asked anew."""

    def __init__(self) -> None:
        self._retry_at = 0.0
        self._is_away = False

    @property
    def is_to_be_asked(self) -> bool:
        return time.monotonic() >= self._retry_at

    def note_failure(self, problem: Problem) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if not self._is_away:
            logger.warning("rate limits are counted by this gateway alone: %s", problem.message)
        self._is_away = True

    def note_success(self) -> None:
        if self._is_away:
            logger.info("rate limits are counted for all gateways again")
        self._is_away = False


class RateLimit:
    """One limit of requests in a minute, by names; 0 is none."""

    def __init__(self, bus: Bus, scope: Literal["key", "address"], limit: int, away: _Away, message: str) -> None:
        self._bus = bus
        self._scope: Literal["key", "address"] = scope
        self._limit = limit
        self._away = away
        self._message = message
        self._lease = max(1, int(limit * LEASE_SHARE))
        self._refill_at = int(self._lease * REFILL_SHARE)
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def has_counted(self, name: str) -> bool:
        """Return whether a request of this name was counted, and it was not forgotten since."""
        return name in self._windows

    def forget(self, name: str) -> None:
        """Drop what is left of the lease of a name."""
        self._windows.pop(name, None)

    def give_back(self, name: str, number: int) -> None:
        """Take back a request that was counted in the window with this number."""
        window = self._windows.get(name)
        if window is not None and window.number == number:
            window.remaining += 1

    async def count(self, name: str) -> int:
        """Count a request; return the number of the window.

        Raises RateLimited, with the seconds until the window ends, if it is over the limit.
        """
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = _Window()
            if len(self._windows) > _MAX_NAMES:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(name)
        if not self._limit:
            return window.number
        while not self._take(window):
            if window.is_used_up and time.monotonic() < window.ends_at:
                raise RateLimited(self._message, retry_after_seconds=window.ends_at - time.monotonic())
            await asyncio.shield(self._request_lease(name, window))
        if window.remaining <= self._refill_at and not window.is_used_up and window.remaining:
            self._request_lease(name, window)
        return window.number

    def _take(self, window: _Window) -> bool:
        if window.remaining <= 0 or time.monotonic() >= window.ends_at:
            return False
        window.remaining -= 1
        return True

    def _request_lease(self, name: str, window: _Window) -> "asyncio.Task[None]":
        """Return the request under way, or a new one."""
        if window.request is None:
            window.request = asyncio.create_task(self._refill(name, window))
        return window.request

    async def _refill(self, name: str, window: _Window) -> None:
        sent_at = time.monotonic()
        try:
            if self._away.is_to_be_asked:
                lease = await self._bus.request(
                    LeaseRequests(scope=self._scope, name=name, limit=self._limit, count=self._lease),
                    timeout_seconds=_LEASE_TIMEOUT_SECONDS,
                )
                self._away.note_success()
                self._add(window, lease, sent_at)
                return
        except Problem as problem:
            self._away.note_failure(problem)
        finally:
            window.request = None
        self._add_local_bound(window)

    def _add(self, window: _Window, lease: RequestLease, sent_at: float) -> None:
        """Add a lease. Its end is reckoned from when it was requested, so that it is not after the window's own."""
        ends_at = sent_at + lease.seconds_left
        if ends_at > window.ends_at + _SAME_WINDOW_SECONDS:  # the former one has ended
            window.remaining, window.ends_at, window.number = lease.granted, ends_at, window.number + 1
        else:
            window.remaining, window.ends_at = window.remaining + lease.granted, min(ends_at, window.ends_at)
        window.is_used_up = lease.granted < self._lease

    def _add_local_bound(self, window: _Window) -> None:
        """Let this gateway alone accept as many as the limit, for a window that begins now.

        A lease that is not used up yet stays: the next request for one comes when it is.
        """
        if window.remaining > 0 and time.monotonic() < window.ends_at:
            return
        window.remaining, window.ends_at = self._limit, time.monotonic() + WINDOW_SECONDS
        window.number += 1
        window.is_used_up = True


class RateLimits:
    """The limits of a gateway: by API key or session, and by address for requests with neither."""

    def __init__(self, bus: Bus, *, per_key: int, per_address: int) -> None:
        away = _Away()
        self._keys = RateLimit(
            bus, "key", per_key, away, f"More than {per_key:,} requests in a minute with one API key or session."
        )
        self._addresses = RateLimit(
            bus,
            "address",
            per_address,
            away,
            f"More than {per_address:,} requests in a minute from your address without a valid API key or session.",
        )

    def is_known(self, credential_hash: str) -> bool:
        """Return whether a key or session was valid when it was last used."""
        return self._keys.has_counted(credential_hash[:_NAME_CHARACTERS])

    async def count_valid(self, credential_hash: str) -> None:
        """Count a request with a valid key or session. Raises RateLimited."""
        await self._keys.count(credential_hash[:_NAME_CHARACTERS])

    def forget(self, credential_hash: str) -> None:
        """Drop a key or session that is not valid any more."""
        self._keys.forget(credential_hash[:_NAME_CHARACTERS])

    async def count_unauthenticated(self, address: str | None) -> int:
        """Count a request that has no valid key or session, or may have none; return the number of the window.

        Raises RateLimited.
        """
        return await self._addresses.count(_address_name(address))

    def give_back(self, address: str | None, number: int) -> None:
        """Take back a request of an address, counted in this window, whose key or session turned out to be valid."""
        self._addresses.give_back(_address_name(address), number)


def _address_name(address: str | None) -> str:
    return hashlib.sha256(network_of(address or "").encode()).hexdigest()[:_NAME_CHARACTERS]
