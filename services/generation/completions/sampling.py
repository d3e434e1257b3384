"""Carries out a plan: all calls at once, whole or streamed, with fallback models for samples that failed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.generation.completions.answers import StreamChunks
from services.generation.completions.planner import Plan
from services.generation.completions.run import GenerationRun
from services.generation.providers.base import PreparedRequest
from services.generation.providers.resilience.dispatch import Dispatch
from shared.contracts.generation.generations import Chunk
from shared.errors import Problem

_MAX_CHUNK_CHARACTERS = 3072
"""Of text in one chunk: old clients read lines up to 64 KiB (behaviour.md §4.6), in which the text stands three times
and an escaped character takes up to six bytes."""


class Sampler:
    """Makes the calls of one run. A provider's problem is recorded on the run and not raised: other samples go on."""

    def __init__(self, run: GenerationRun, plan: Plan, dispatch: Dispatch) -> None:
        self._run = run
        self._plan = plan
        self._dispatch = dispatch
        self._chunks = StreamChunks(run)
        self._queue: asyncio.Queue[Chunk | None] = asyncio.Queue()
        """Chunks of all samples; None when a sample has ended."""

    async def complete(self) -> None:
        """Make all calls at once and wait for all, also if one fails: it may have cost something."""
        if len(self._plan.requests) == 1:
            await self._complete_request(0, self._plan.requests[0])
            return
        async with asyncio.TaskGroup() as group:
            first = 0
            for prepared in self._plan.requests:
                group.create_task(self._complete_request(first, prepared))
                first += prepared.request.samples

    async def _complete_request(self, first: int, prepared: PreparedRequest) -> None:
        """Complete the samples from `first` on; each sample that failed falls back by itself."""
        await self._call(first, prepared)
        async with asyncio.TaskGroup() as group:
            for index in range(first, first + prepared.request.samples):
                if self._run.results[index].can_fall_back:
                    group.create_task(self._complete_fallbacks(index))

    async def _complete_fallbacks(self, index: int) -> None:
        async for prepared in self._fallback_requests(index):
            await self._call(index, prepared)

    async def _call(self, first: int, prepared: PreparedRequest) -> None:
        run = self._run
        call = run.start_call(first, prepared)
        try:
            response = await self._dispatch.complete(run.command.organisation, prepared, call.progress)
            run.record_response(first, call, response)
        except Problem as problem:
            run.record_failure(first, call, problem)

    async def stream(self) -> AsyncGenerator[Chunk, None]:
        """Make all calls at once and yield their chunks in order of arrival; closing the generator cancels them."""
        tasks = [
            asyncio.create_task(self._stream_sample(index, prepared))
            for index, prepared in enumerate(self._plan.requests)
        ]
        for task in tasks:
            task.add_done_callback(lambda _: self._queue.put_nowait(None))
        try:
            running = len(tasks)
            while running:
                chunk = await self._queue.get()
                if chunk is None:
                    running -= 1
                else:
                    yield chunk
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _stream_sample(self, index: int, prepared: PreparedRequest) -> None:
        await self._stream_call(index, prepared)
        async for fallback in self._fallback_requests(index):
            await self._stream_call(index, fallback)
        if self._run.results[index].problem is None:
            self._queue.put_nowait(self._chunks.end(index))

    async def _stream_call(self, index: int, prepared: PreparedRequest) -> None:
        run, failure = self._run, None
        call = run.start_call(index, prepared)
        try:
            deltas = self._dispatch.stream(run.command.organisation, prepared, call.progress)
            async with aclosing(deltas):
                async for delta in deltas:
                    call.accumulator.add(delta)
                    for start in range(0, len(delta.text), _MAX_CHUNK_CHARACTERS):
                        run.results[index].text_sent = True
                        text = delta.text[start : start + _MAX_CHUNK_CHARACTERS]
                        self._queue.put_nowait(self._chunks.text(index, text))
        except Problem as problem:
            failure = problem
        finally:
            run.record_stream_end(index, call, failure)

    async def _fallback_requests(self, index: int) -> AsyncGenerator[PreparedRequest, None]:
        """Yield the plan's fallback requests as long as the sample can fall back."""
        if self._run.results[index].can_fall_back:
            async for prepared in self._plan.fallback_requests():
                yield prepared
                if not self._run.results[index].can_fall_back:
                    return
