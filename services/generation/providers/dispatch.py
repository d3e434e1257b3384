"""Calls with patience: a place among those to the same provider, tries that are worth repeating, an end to waiting.

place     at most so many calls at a time to one address; the others wait for one to end
circuit   an address that failed so many calls in a row gets no more of them for a while
tries     refused for load (429, 503, 529), failed with 5xx, not connected: again, after a growing time with jitter,
          or after what Retry-After says. Never once a word of the answer has arrived
end       all of it within the total time
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import stamina
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from services.generation.completion import Chunk, Completion
from services.generation.providers import errors
from services.generation.providers.base import Call
from services.generation.providers.client import Client
from shared.errors import Problem, Unavailable, UpstreamFailed

_JITTER_SECONDS = 0.5


@dataclass(frozen=True)
class Patience:
    """How long, how often, how many."""

    total_seconds: float = 1200.0
    """For a call with all its tries; longer than the ten minutes old clients wait."""
    tries: int = 3
    wait_initial_seconds: float = 0.25
    """Before the second try; doubles with each, plus up to half a second of jitter."""
    wait_most_seconds: float = 20.0
    """A provider that wants us to wait longer than this is not tried again: its caller is told instead."""
    at_once: int = 256
    """Calls at a time to one address."""
    place_seconds: float = 30.0
    """How long a call waits for its place."""
    failures: int = 10
    """Calls in a row that fail before an address is left alone."""
    rest_seconds: float = 15.0
    """For so long; then one may try."""


class Dispatch:
    """The client, used with patience."""

    def __init__(self, client: Client, patience: Patience) -> None:
        self._client = client
        self._patience = patience
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(patience.at_once))
        self._circuits = AsyncCircuitBreakerFactory(
            patience.failures, patience.rest_seconds, [(BaseException, _not_its_fault)]
        )

    async def complete(self, call: Call) -> Completion:
        """The whole answer. Errors: those of `providers/errors.py`."""
        async with self._limits(call):
            async for attempt in self._attempts(_Progress()):
                with attempt:
                    async with self._place(call):
                        return await self._client.complete(call)
        raise AssertionError("the last try returns or raises")

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes. Errors: those of `providers/errors.py`, at any point."""
        progress = _Progress()
        async with self._limits(call):
            async for attempt in self._attempts(progress):
                with attempt:
                    async with self._place(call), aclosing(self._client.stream(call)) as chunks:
                        async for chunk in chunks:
                            progress.begun = True
                            yield chunk

    @asynccontextmanager
    async def _limits(self, call: Call) -> AsyncIterator[None]:
        """The circuit and the end of all waiting."""
        circuit = await self._circuits.get_breaker(_address(call))
        try:
            async with circuit, asyncio.timeout(self._patience.total_seconds):
                yield
        except TimeoutError as error:
            raise errors.silent(call.title) from error
        except OpenedState as error:
            raise Unavailable(
                f"{call.title} failed {self._patience.failures} calls in a row; it is left alone for a moment.",
                origin=call.title,
                retry_after_seconds=self._patience.rest_seconds,
            ) from error

    @asynccontextmanager
    async def _place(self, call: Call) -> AsyncIterator[None]:
        place = self._places[_address(call)]
        try:
            async with asyncio.timeout(self._patience.place_seconds if place.locked() else None):
                await place.acquire()
        except TimeoutError:
            raise _Crowded(f"Too many calls to {call.title} are under way. Try again.", origin=call.title) from None
        try:
            yield
        finally:
            place.release()

    def _attempts(self, progress: "_Progress") -> AsyncIterator[stamina.Attempt]:
        patience = self._patience

        def again(error: Exception) -> bool | float:
            """Whether to try again, and after how many seconds if the provider says so."""
            if progress.begun or not isinstance(error, Problem) or not errors.worth_repeating(error):
                return False
            told = error.retry_after_seconds
            return told is None or (told <= patience.wait_most_seconds and told)

        return aiter(
            stamina.retry_context(
                on=again,
                attempts=patience.tries,
                timeout=patience.total_seconds,
                wait_initial=patience.wait_initial_seconds,
                wait_max=patience.wait_most_seconds,
                wait_jitter=_JITTER_SECONDS,
            )
        )


@dataclass
class _Progress:
    begun: bool = False
    """Whether a word of the answer was passed on."""


class _Crowded(Unavailable):
    """There was no place; trying again would only mean more waiting."""


def _address(call: Call) -> str:
    return f"{call.provider} {urlsplit(call.url).netloc}"


def _not_its_fault(error: BaseException) -> bool:
    """Whether the address answered in order, be it with a refusal, or nobody waited for its answer."""
    return not isinstance(error, Unavailable | UpstreamFailed | TimeoutError)
