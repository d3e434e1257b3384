"""From a plan to samples: every call at the same time, whole or streamed, and someone else's where one fails."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from services.generation.completions.run import GenerationRun
from services.generation.providers.base import PreparedRequest
from services.generation.providers.resilience.dispatch import Dispatch
from shared.contracts.generations import Chunk
from shared.errors import Problem

_PIECE = 3072
"""Characters of text in one event: old clients read no longer lines than 64 KiB (behaviour.md §4.6), in which the text
stands three times and a character takes up to six bytes where it is escaped."""


@dataclass(frozen=True)
class Plan:
    """Whom to ask."""

    calls: list[PreparedRequest]
    """Their answers are the samples, in their order."""
    fallback_requests: Callable[[], AsyncGenerator[PreparedRequest, None]]
    """For one sample: whom to ask when its call failed, in order."""


class Sampling:
    """The calls of one attempt. A provider's problem is noted there and not raised: the other samples go on."""

    def __init__(self, run: GenerationRun, plan: Plan, dispatch: Dispatch) -> None:
        self._run = run
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
            for prepared in self._plan.calls:
                group.create_task(self._answers(first, prepared))
                first += prepared.request.samples

    async def _answers(self, first: int, prepared: PreparedRequest) -> None:
        await self._answer(first, prepared)
        async with asyncio.TaskGroup() as group:
            for index in range(first, first + prepared.request.samples):
                if self._run.results[index].may_fall_back:
                    group.create_task(self._fall_back(index))

    async def _fall_back(self, index: int) -> None:
        async for other in self._fallbacks(index):
            await self._answer(index, other)

    async def _answer(self, first: int, prepared: PreparedRequest) -> None:
        run = self._run
        call = run.start_call(first, prepared)
        try:
            completion = await self._dispatch.complete(run.command.organisation, prepared, call.progress)
            run.record_response(first, call, completion)
        except Problem as problem:
            run.record_failure(first, call, problem)

    async def stream(self) -> AsyncGenerator[Chunk, None]:
        """Every sample's events as they come, among one another."""
        samples = [
            asyncio.create_task(self._events(index, prepared)) for index, prepared in enumerate(self._plan.calls)
        ]
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

    async def _events(self, index: int, prepared: PreparedRequest) -> None:
        await self._one(index, prepared)
        async for other in self._fallbacks(index):
            await self._one(index, other)
        if self._run.results[index].problem is None:
            self._arrived.put_nowait(self._run.last_chunk(index))

    async def _one(self, index: int, prepared: PreparedRequest) -> None:
        run, failure = self._run, None
        call = run.start_call(index, prepared)
        try:
            chunks = self._dispatch.stream(run.command.organisation, prepared, call.progress)
            async with aclosing(chunks):
                async for chunk in chunks:
                    call.accumulator.add(chunk)
                    for start in range(0, len(chunk.text), _PIECE):
                        run.results[index].passed_on = True
                        self._arrived.put_nowait(run.chunk(index, chunk.text[start : start + _PIECE]))
        except Problem as problem:
            failure = problem
        finally:
            run.record_stream_end(index, call, failure)

    async def _fallbacks(self, index: int) -> AsyncGenerator[PreparedRequest, None]:
        """Whom to ask for this sample now, as long as one may be asked."""
        if self._run.results[index].may_fall_back:
            async for prepared in self._plan.fallback_requests():
                yield prepared
                if not self._run.results[index].may_fall_back:
                    return
