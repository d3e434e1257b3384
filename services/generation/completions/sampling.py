"""From a plan to samples: every call at the same time, whole or streamed, and someone else's where one fails."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from services.generation.completions.run import Attempt
from services.generation.providers.base import Call
from services.generation.providers.resilience.dispatch import Dispatch
from shared.contracts.generations import Chunk
from shared.errors import Problem

_PIECE = 3072
"""Characters of text in one event: old clients read no longer lines than 64 KiB (behaviour.md §4.6), in which the text
stands three times and a character takes up to six bytes where it is escaped."""


@dataclass(frozen=True)
class Plan:
    """Whom to ask."""

    calls: list[Call]
    """Their answers are the samples, in their order."""
    instead: Callable[[], AsyncGenerator[Call, None]]
    """For one sample: whom to ask when its call failed, in order."""


class Sampling:
    """The calls of one attempt. A provider's problem is noted there and not raised: the other samples go on."""

    def __init__(self, attempt: Attempt, plan: Plan, dispatch: Dispatch) -> None:
        self._attempt = attempt
        self._plan = plan
        self._dispatch = dispatch
        self._arrived: asyncio.Queue[Chunk | None] = asyncio.Queue()

    async def complete(self) -> None:
        """Whole answers. One that fails does not stop the others: what they cost is cost."""
        if len(self._plan.calls) == 1:
            await self._answers(0, self._plan.calls[0])
            return
        async with asyncio.TaskGroup() as group:
            first = 0
            for call in self._plan.calls:
                group.create_task(self._answers(first, call))
                first += call.request.samples

    async def _answers(self, first: int, call: Call) -> None:
        await self._answer(first, call)
        async with asyncio.TaskGroup() as group:
            for index in range(first, first + call.request.samples):
                if self._attempt.outcomes[index].may_be_helped:
                    group.create_task(self._helped(index))

    async def _helped(self, index: int) -> None:
        async for other in self._others(index):
            await self._answer(index, other)

    async def _answer(self, first: int, call: Call) -> None:
        attempt = self._attempt
        asked = attempt.asking(first, call)
        try:
            completion = await self._dispatch.complete(attempt.command.organisation, call, asked.progress)
            attempt.answered(first, asked, completion)
        except Problem as problem:
            attempt.failed_call(first, asked, problem)

    async def stream(self) -> AsyncGenerator[Chunk, None]:
        """Every sample's events as they come, among one another."""
        samples = [asyncio.create_task(self._events(index, call)) for index, call in enumerate(self._plan.calls)]
        for sample in samples:
            sample.add_done_callback(lambda _: self._arrived.put_nowait(None))
        try:
            running = len(samples)
            while running:
                chunk = await self._arrived.get()
                if chunk is None:
                    running -= 1
                else:
                    yield chunk
            await asyncio.gather(*samples)
        finally:
            for sample in samples:
                sample.cancel()
            await asyncio.gather(*samples, return_exceptions=True)

    async def _events(self, index: int, call: Call) -> None:
        await self._one(index, call)
        async for other in self._others(index):
            await self._one(index, other)
        if self._attempt.outcomes[index].problem is None:
            self._arrived.put_nowait(self._attempt.last_chunk(index))

    async def _one(self, index: int, call: Call) -> None:
        attempt, failure = self._attempt, None
        asked = attempt.asking(index, call)
        try:
            chunks = self._dispatch.stream(attempt.command.organisation, call, asked.progress)
            async with aclosing(chunks):
                async for chunk in chunks:
                    asked.joined.add(chunk)
                    for start in range(0, len(chunk.text), _PIECE):
                        attempt.outcomes[index].said = True
                        self._arrived.put_nowait(attempt.chunk(index, chunk.text[start : start + _PIECE]))
        except Problem as problem:
            failure = problem
        finally:
            attempt.ended(index, asked, failure)

    async def _others(self, index: int) -> AsyncGenerator[Call, None]:
        """Whom to ask for this sample now, as long as one may be asked."""
        if self._attempt.outcomes[index].may_be_helped:
            async for call in self._plan.instead():
                yield call
                if not self._attempt.outcomes[index].may_be_helped:
                    return
