"""Bounds concurrency by shares: semaphores that live as long as somebody holds or awaits a place of theirs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakValueDictionary

_Key = tuple[str | None, str | None]
"""Organisation and target; None: all of them."""


@dataclass(frozen=True)
class Share:
    """How many places somebody may hold at a time."""

    organisation: str | None
    """None: all organisations together."""
    target: str | None
    """What is called. None: everything together."""
    places: int


def fair_shares(total: int, organisation: str, target: str) -> tuple[Share, ...]:
    """Return the shares of one call, of `total` places for calls of every organisation to every target.

    An organisation holds at most a quarter of them, half of that for one target; a target holds at most half of them,
    whoever calls it. So neither one organisation nor one slow target stands before others.
    """
    return (
        Share(organisation, target, -(-total // 8)),
        Share(organisation, None, -(-total // 4)),
        Share(None, target, -(-total // 2)),
        Share(None, None, total),
    )


class ShareUsed(Exception):  # noqa: N818 - who acquires a place says what that means to the caller
    """No place of a share became free in time."""

    def __init__(self, share: Share) -> None:
        super().__init__(share)
        self.share = share


class Place:
    """A place in every share of a call. Leaving the `with` block releases it, or `release` does."""

    def __init__(self, semaphores: Sequence[asyncio.Semaphore]) -> None:
        self._semaphores = list(semaphores)

    def release(self) -> None:
        """Release the place; a second call does nothing."""
        while self._semaphores:
            self._semaphores.pop().release()

    def __enter__(self) -> None:
        """Hold the place, which is acquired already."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class ConcurrencyLimiter:
    """A semaphore a share."""

    def __init__(self) -> None:
        self._semaphores: WeakValueDictionary[_Key, asyncio.Semaphore] = WeakValueDictionary()

    async def acquire(self, shares: Sequence[Share], wait_seconds: float) -> Place:
        """Return a place in all of the shares: `with await limiter.acquire(…):`. Raises ShareUsed after `wait_seconds`.

        Shares go from the narrowest to the widest: who waits for a wide one holds nothing but their own.
        """
        held: list[asyncio.Semaphore] = []
        share = None
        try:
            async with asyncio.timeout(wait_seconds):
                for share in shares:
                    semaphore = self._semaphore(share)
                    await semaphore.acquire()
                    held.append(semaphore)
        except BaseException as error:
            Place(held).release()
            if share is not None and isinstance(error, TimeoutError):
                raise ShareUsed(share) from None
            raise
        return Place(held)

    def _semaphore(self, share: Share) -> asyncio.Semaphore:
        key = (share.organisation, share.target)
        if (semaphore := self._semaphores.get(key)) is None:
            semaphore = self._semaphores[key] = asyncio.Semaphore(share.places)
        return semaphore
