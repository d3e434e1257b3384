"""Calls with patience: a place among those to the same provider, tries that are worth repeating, an end to waiting.

place     at most so many calls at a time to one address, and three quarters of them for one organisation; the others
          wait for one to end
circuit   a model that failed so many calls of an organisation in a row gets no more of them for a while
tries     refused for load (429, 503, 529), failed with 5xx, not connected: again, after a growing time with jitter,
          or after what Retry-After says. Never once a word of the answer has arrived
end       all of it within the total time
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import stamina

from services.generation.models.request import ModelResponse, ResponseDelta
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from services.generation.providers.resilience.circuit_breaker import CircuitBreaker, CircuitOpen
from services.generation.providers.transport.client import Client
from shared.errors import Problem, Unavailable

logger = logging.getLogger(__name__)

_JITTER_SECONDS = 0.5


@dataclass(frozen=True)
class RetryPolicy:
    """How long, how often, how many."""

    total_seconds: float = 1200.0
    """For a call with all its tries; longer than the ten minutes old clients wait."""
    tries: int = 3
    wait_initial_seconds: float = 0.25
    """Before the second try; doubles with each, plus up to half a second of jitter."""
    wait_max_seconds: float = 20.0
    """A provider that wants us to wait longer than this is not tried again: its caller is told instead."""
    max_concurrency: int = 256
    """Calls at a time to one address."""
    queue_timeout_seconds: float = 30.0
    """How long a call waits for its place."""
    failure_threshold: int = 10
    """Calls in a row that fail before a model is left alone."""
    open_seconds: float = 15.0
    """For so long; then one may try."""


def note_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """To our log, in stamina's place: the provider's words may quote what a caller wants kept nowhere."""
    if isinstance(problem := details.caused_by, Problem):
        logger.info("%s: %s, once more in %.1f s", problem.origin, problem.code, details.wait_for)


@dataclass
class CallProgress:
    """How far a call came, for whoever made it and may have left it."""

    begun: bool = False
    """Whether an event of the answer has come."""
    may_have_cost: bool = False
    """Whether it was sent, and not refused."""

    def sent(self) -> None:
        """The provider has it now."""
        self.may_have_cost = True

    @contextmanager
    def of_a_try(self) -> Iterator[None]:
        """What a refusal does not cost, earlier tries still may have."""
        before = self.may_have_cost
        try:
            yield
        except Problem as problem:
            self.may_have_cost = before or (self.may_have_cost and errors.may_have_cost(problem))
            raise


class Dispatch:
    """The client, used with patience."""

    def __init__(self, client: Client, retry_policy: RetryPolicy) -> None:
        self._client = client
        self._retry_policy = retry_policy
        self._limiter = ConcurrencyLimiter(retry_policy.max_concurrency)
        self._breaker = CircuitBreaker(retry_policy.failure_threshold, retry_policy.open_seconds)

    async def complete(self, organisation: str, prepared: PreparedRequest, progress: CallProgress) -> ModelResponse:
        """The whole answer. Errors: those of `providers/errors.py`."""
        async with self._limits(organisation, prepared):
            async for attempt in self._attempts(progress):
                with attempt:
                    async with self._place(organisation, prepared):
                        with progress.of_a_try():
                            return await self._client.complete(prepared, progress.sent)
        raise AssertionError("the last try returns or raises")

    async def stream(
        self, organisation: str, prepared: PreparedRequest, progress: CallProgress
    ) -> AsyncGenerator[ResponseDelta, None]:
        """The answer as it comes. Errors: those of `providers/errors.py`, at any point."""
        async with self._limits(organisation, prepared):
            async for attempt in self._attempts(progress):
                with attempt:
                    async with (
                        self._place(organisation, prepared),
                        aclosing(self._client.stream(prepared, progress.sent)) as it,
                    ):
                        with progress.of_a_try():
                            async for chunk in it:
                                progress.begun = True
                                yield chunk

    @asynccontextmanager
    async def _limits(self, organisation: str, prepared: PreparedRequest) -> AsyncIterator[None]:
        """The circuit and the end of all waiting."""
        whom = (organisation, _address(prepared), prepared.request.config.model)
        try:
            with nullcontext() if self._client.is_in_process(prepared) else self._breaker.guard(whom):
                try:
                    async with asyncio.timeout(self._retry_policy.total_seconds):
                        yield
                except TimeoutError as error:
                    raise errors.silent(prepared.title) from error
        except CircuitOpen as open_circuit:
            raise Unavailable(
                f"{prepared.title} failed {self._retry_policy.failure_threshold} calls in a row; no calls for now.",
                origin=prepared.title,
                retry_after_seconds=open_circuit.seconds,
            ) from None

    @asynccontextmanager
    async def _place(self, organisation: str, prepared: PreparedRequest) -> AsyncIterator[None]:
        places = self._limiter.of(organisation, _address(prepared))
        async with AsyncExitStack() as taken:
            try:
                wait = any(place.locked() for place in places)
                async with asyncio.timeout(self._retry_policy.queue_timeout_seconds if wait else None):
                    for place in places:
                        await taken.enter_async_context(place)
            except TimeoutError:
                raise QueueTimeout(
                    f"Too many calls to {prepared.title} are under way. Try again.", origin=prepared.title
                ) from None
            yield

    def _attempts(self, progress: CallProgress) -> AsyncIterator[stamina.Attempt]:
        retry_policy = self._retry_policy

        def again(error: Exception) -> bool | float:
            """Whether to try again, and after how many seconds if the provider says so."""
            if progress.begun or not isinstance(error, Problem) or not errors.worth_repeating(error):
                return False
            told = error.retry_after_seconds
            return not told or (told <= retry_policy.wait_max_seconds and told)

        return aiter(
            stamina.retry_context(
                on=again,
                attempts=retry_policy.tries,
                timeout=retry_policy.total_seconds,
                wait_initial=retry_policy.wait_initial_seconds,
                wait_max=retry_policy.wait_max_seconds,
                wait_jitter=_JITTER_SECONDS,
            )
        )


class ConcurrencyLimiter:
    """Of the addresses that are called right now."""

    def __init__(self, max_concurrency: int) -> None:
        self._at_once = max_concurrency
        self._share = -(-3 * max_concurrency // 4)
        self._semaphores: WeakValueDictionary[tuple[str | None, str], asyncio.Semaphore] = WeakValueDictionary()

    def of(self, organisation: str, address: str) -> tuple[asyncio.Semaphore, ...]:
        """What a call takes, one after the other; hold them for as long as they may be waited for."""
        return self._named((organisation, address), self._share), self._named((None, address), self._at_once)

    def _named(self, key: tuple[str | None, str], most: int) -> asyncio.Semaphore:
        if (known := self._semaphores.get(key)) is None:
            known = self._semaphores[key] = asyncio.Semaphore(most)
        return known


class QueueTimeout(Unavailable):
    """There was no place; trying again would only mean more waiting."""


def _address(prepared: PreparedRequest) -> str:
    return f"{prepared.provider} {urlsplit(prepared.url).netloc}"
