"""Throttles attempts to guess: passwords and tokens. The same for people who exist and who do not.

A person's attempts from one address are counted together, so nobody else's failures keep them out from where they are.
"""

import hashlib
from typing import NamedTuple

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute

from services.authz.store.rate_limits import RateLimitStore
from shared.contracts.access.authentication import network_of
from shared.errors import RateLimited


class _Limit(NamedTuple):
    item: RateLimitItem
    names: tuple[str, ...]


class Attempts:
    """Counts attempts on a person's password, and failures of an address whatever they were about.

    Per person and address 10 in 15 minutes, per person 200 in an hour; per address 100 failures in 15 minutes.
    """

    _PERSON_HERE = RateLimitItemPerMinute(10, 15, namespace="person-here")
    _PERSON = RateLimitItemPerHour(200, 1, namespace="person")
    _ADDRESS = RateLimitItemPerMinute(100, 15, namespace="address")

    def __init__(self, store: RateLimitStore) -> None:
        self._store = store

    async def begin(self, email: str, address: str) -> None:
        """Count an attempt on a person's password, before it is tried. Raises RateLimited."""
        await self.check_address(address)
        for item, names in self._person_limits(email, address):
            if not await self._store.count(item, *names):
                raise await self._refusal(item, *names)

    async def succeed(self, email: str, address: str) -> None:
        """Forget the person's attempts from this address: it was they."""
        await self._store.forget(self._PERSON_HERE, *self._person_limits(email, address)[0].names)

    async def fail(self, address: str) -> None:
        """Count a failure of an address: a wrong password, an unknown token."""
        await self._store.count(self._ADDRESS, network_of(address))

    async def check_address(self, address: str) -> None:
        """Raise RateLimited if there were too many failures from an address."""
        if not await self._store.has_room(self._ADDRESS, network_of(address)):
            raise await self._refusal(self._ADDRESS, network_of(address))

    async def forget_person(self, email: str) -> None:
        """Begin to count the person's attempts anew, wherever they came from."""
        await self._store.forget(self._PERSON, _hash(email))

    def _person_limits(self, email: str, address: str) -> tuple[_Limit, _Limit]:
        person = _hash(email)
        return (
            _Limit(self._PERSON_HERE, (person, network_of(address))),
            _Limit(self._PERSON, (person,)),
        )

    async def _refusal(self, item: RateLimitItem, *names: str) -> RateLimited:
        seconds = await self._store.seconds_left(item, *names)
        minutes = -(-int(seconds) // 60)
        return RateLimited(
            f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}.",
            retry_after_seconds=seconds,
        )


def _hash(email: str) -> str:
    return hashlib.sha256(email.encode()).hexdigest()[:32]
