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
from shared.errors import Problem, Unavailable

_MAX_CHUNK_CHARACTERS = 3072
"""Of text in one chunk: old clients read lines up to 64 KiB (behaviour.md §4.6), in which the text stands three times
and an escaped character takes up to six bytes."""
_MAX_QUEUED_CHUNKS = 16
"""Of all samples of a run. When so many are not taken, the samples read no more of what their providers send."""
_READ_TOO_SLOWLY = "The answer was read so slowly that the call took longer than it may, and was broken off."


class Sampler:
    """Makes the calls of one run. A provider's problem is recorded on the run and not raised: other samples go on."""

    def __init__(self, run: GenerationRun, plan: Plan, dispatch: Dispatch) -> None:
        self._run = run
        self._plan = plan
        self._dispatch = dispatch
        self._chunks = StreamChunks(run)
        self._queue: asyncio.Queue[Chunk | None] = asyncio.Queue()
        """Chunks of all samples; None when a sample has ended."""
        self._room = asyncio.Semaphore(_MAX_QUEUED_CHUNKS)
        """For chunks in the queue; what stands for the end of a sample needs none."""

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
        """Complete the samples from `first` on; each sample that failed falls back by itself, each that is missing is
        asked for by itself."""
        await self._call(first, prepared)
        indexes = range(first, first + prepared.request.samples)
        results = self._run.results
        missing = [index for index in indexes if results[index].choice is None and results[index].problem is None]
        single = await self._prepare_single(missing) if missing else None
        async with asyncio.TaskGroup() as group:
            for index in indexes:
                if results[index].can_fall_back:
                    group.create_task(self._complete_fallbacks(index))
                elif single and index in missing:
                    group.create_task(self._complete_request(index, single))

    async def _prepare_single(self, missing: list[int]) -> PreparedRequest | None:
        """Return the request for each sample that the server did not give: some ignore `n`, and what they gave was paid
        for. None, with the problem recorded on these samples, if it cannot be prepared."""
        try:
            return await self._plan.single_request()
        except Problem as problem:
            for index in missing:
                self._run.results[index].problem = problem
            return None

    async def _complete_fallbacks(self, index: int) -> None:
        async for prepared in self._fallback_requests(index):
            await self._call(index, prepared)

    async def _call(self, first: int, prepared: PreparedRequest) -> None:
        run = self._run
        call = run.start_call(first, prepared)
        try:
            response = await self._dispatch.complete(run.command.organisation, prepared, call.progress)
            call.answered = True
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
                    self._room.release()
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
            await self._put(self._chunks.end(index))

    async def _put(self, chunk: Chunk) -> None:
        await self._room.acquire()
        self._queue.put_nowait(chunk)

    async def _stream_call(self, index: int, prepared: PreparedRequest) -> None:
        run, failure = self._run, None
        call = run.start_call(index, prepared)
        try:
            deltas = self._dispatch.stream(run.command.organisation, prepared, call.progress)
            async with aclosing(deltas):
                async for delta in deltas:
                    for start in range(0, len(delta.text), _MAX_CHUNK_CHARACTERS):
                        run.results[index].text_sent = True
                        text = delta.text[start : start + _MAX_CHUNK_CHARACTERS]
                        await self._put(self._chunks.text(index, text))
            call.answered = True
        except Problem as problem:
            failure = problem
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # Nobody cancelled the task: the timeout of the whole call did, while it waited for its reader and not in
            # the generator that has the timeout.
            failure = Unavailable(_READ_TOO_SLOWLY)
        finally:
            run.record_stream_end(index, call, failure)

    async def _fallback_requests(self, index: int) -> AsyncGenerator[PreparedRequest, None]:
        """Yield the plan's fallback requests as long as the sample can fall back."""
        if self._run.results[index].can_fall_back:
            async for prepared in self._plan.fallback_requests():
                yield prepared
                if not self._run.results[index].can_fall_back:
                    return


def _is_cancelled() -> bool:
    """Whether somebody cancelled the current task; in a variable there, it and its error would hold each other."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
