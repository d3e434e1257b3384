"""The order in which requests begin: organisations in turn, and few in each round of the event loop.

Up to its first wait a request takes a millisecond or more, and nothing else runs meanwhile. So of a thousand that
arrive at once the last one would wait for all others, and so would whoever calls a moment later.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterable
from typing import TypeVar

T = TypeVar("T")

MAX_PER_ROUND = 4
"""Requests begun in one round of the event loop, before responses, messages and new requests are looked at again."""
ITEMS_PER_TURN = 25
"""Of a request with many, as an array of logs: they take about as long as a request with one."""


class FairOrder:
    """Lets requests begin: of those that wait the first one of each organisation in turn."""

    def __init__(self) -> None:
        self._begun = 0
        """In this round."""
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By organisation; the one whose turn is next is first, and no queue is empty."""

    async def wait(self, organisation: Hashable) -> None:
        """Return when a request of the organisation may begin: at once unless many others have begun in this round."""
        if not self._waiting and self._begun < MAX_PER_ROUND:
            self._begin()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(organisation, deque()).append(turn)
        await turn

    async def in_turns(self, organisation: Hashable, items: Iterable[T]) -> AsyncIterator[T]:
        """Yield the items of a request of the organisation; other requests have their turns after some of them."""
        for index, item in enumerate(items):
            if index and index % ITEMS_PER_TURN == 0:
                await self.wait(organisation)
            yield item

    def _begin(self) -> None:
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._next_round)
        self._begun += 1

    def _next_round(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < MAX_PER_ROUND:
            organisation, queue = next(iter(self._waiting.items()))
            del self._waiting[organisation]
            turn = queue.popleft()
            if queue:
                self._waiting[organisation] = queue  # behind the others
            if not turn.done():  # else its request was cancelled
                turn.set_result(None)
                self._begin()
