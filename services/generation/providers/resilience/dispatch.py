"""Calls a provider under limits: concurrency per address, a circuit breaker per model, retries with backoff, one total
timeout.

concurrency   at most `max_concurrency` calls at a time to one address, and three quarters of them for one organisation;
              others wait for one to end
circuit       a model that failed so many calls of an organisation in a row gets no more of them for a while
retries       after 429, 503, 529, 5xx or a failed connection: with growing delay and jitter, or after what Retry-After
              says; never once an event of the answer has arrived
timeout       over all attempts and waits
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
    """Limits of the calls to providers."""

    total_seconds: float = 1200.0
    """Of a call with all its attempts; longer than the ten minutes old clients wait."""
    tries: int = 3
    """Attempts at most, the first included."""
    wait_initial_seconds: float = 0.25
    """Before the second attempt; doubles with each, plus up to half a second of jitter."""
    wait_max_seconds: float = 20.0
    """A provider whose Retry-After is longer is not tried again: the caller gets the error with Retry-After."""
    max_concurrency: int = 256
    """Calls at a time to one address."""
    queue_timeout_seconds: float = 30.0
    """How long a call waits for others to the same address to end."""
    failure_threshold: int = 10
    """Failed calls in a row that open a model's circuit."""
    open_seconds: float = 15.0
    """How long a circuit stays open before a trial call."""


def log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Log a retry, in place of stamina's own hook: a provider's message may quote what must not be kept."""
    if isinstance(problem := details.caused_by, Problem):
        logger.info("%s: %s, once more in %.1f s", problem.origin, problem.code, details.wait_for)


@dataclass
class CallProgress:
    """How far a call came; readable also after its caller was cancelled."""

    answer_started: bool = False
    """Whether an event of the streamed answer has arrived."""
    may_have_cost: bool = False
    """Whether the provider may charge for it: it was sent, and not refused."""

    def mark_sent(self) -> None:
        """The request goes out to the provider now."""
        self.may_have_cost = True

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run one attempt; if it is refused, only earlier attempts may have cost something."""
        before = self.may_have_cost
        try:
            yield
        except Problem as problem:
            self.may_have_cost = before or (self.may_have_cost and errors.may_have_cost(problem))
            raise


class Dispatch:
    """The client under the limits of a `RetryPolicy`."""

    def __init__(self, client: Client, retry_policy: RetryPolicy) -> None:
        self._client = client
        self._retry_policy = retry_policy
        self._limiter = ConcurrencyLimiter(retry_policy.max_concurrency)
        self._breaker = CircuitBreaker(retry_policy.failure_threshold, retry_policy.open_seconds)

    async def complete(self, organisation: str, prepared: PreparedRequest, progress: CallProgress) -> ModelResponse:
        """Return the response of a request that is not streamed. Raises the problems of `providers/errors.py`."""
        async with self._limits(organisation, prepared):
            async for attempt in self._attempts(progress):
                with attempt:
                    async with self._slot(organisation, prepared):
                        with progress.attempt():
                            return await self._client.complete(prepared, progress.mark_sent)
        raise AssertionError("the last attempt returns or raises")

    async def stream(
        self, organisation: str, prepared: PreparedRequest, progress: CallProgress
    ) -> AsyncGenerator[ResponseDelta, None]:
        """Yield the events of a streamed response. Raises the problems of `providers/errors.py`, at any point."""
        async with self._limits(organisation, prepared):
            async for attempt in self._attempts(progress):
                with attempt:
                    async with (
                        self._slot(organisation, prepared),
                        aclosing(self._client.stream(prepared, progress.mark_sent)) as deltas,
                    ):
                        with progress.attempt():
                            async for delta in deltas:
                                progress.answer_started = True
                                yield delta

    @asynccontextmanager
    async def _limits(self, organisation: str, prepared: PreparedRequest) -> AsyncIterator[None]:
        """Apply the circuit breaker and the total timeout. Raises Unavailable (open circuit), UpstreamFailed."""
        circuit = (organisation, _address(prepared), prepared.request.config.model)
        try:
            with nullcontext() if self._client.is_in_process(prepared) else self._breaker.guard(circuit):
                try:
                    async with asyncio.timeout(self._retry_policy.total_seconds):
                        yield
                except TimeoutError as error:
                    raise errors.timed_out(prepared.title) from error
        except CircuitOpen as open_circuit:
            raise Unavailable(
                f"{prepared.title} failed {self._retry_policy.failure_threshold} calls in a row; no calls for now.",
                origin=prepared.title,
                retry_after_seconds=open_circuit.seconds,
            ) from None

    @asynccontextmanager
    async def _slot(self, organisation: str, prepared: PreparedRequest) -> AsyncIterator[None]:
        """Hold a slot of the concurrency limiter. Raises QueueTimeout."""
        semaphores = self._limiter.semaphores(organisation, _address(prepared))
        async with AsyncExitStack() as acquired:
            try:
                wait = any(semaphore.locked() for semaphore in semaphores)
                async with asyncio.timeout(self._retry_policy.queue_timeout_seconds if wait else None):
                    for semaphore in semaphores:
                        await acquired.enter_async_context(semaphore)
            except TimeoutError:
                raise QueueTimeout(
                    f"Too many calls to {prepared.title} are under way. Try again.", origin=prepared.title
                ) from None
            yield

    def _attempts(self, progress: CallProgress) -> AsyncIterator[stamina.Attempt]:
        retry_policy = self._retry_policy

        def should_retry(error: Exception) -> bool | float:
            """Return whether to try again, or after how many seconds if the provider says so."""
            if progress.answer_started or not isinstance(error, Problem) or not errors.is_retryable(error):
                return False
            retry_after = error.retry_after_seconds
            return not retry_after or (retry_after <= retry_policy.wait_max_seconds and retry_after)

        return aiter(
            stamina.retry_context(
                on=should_retry,
                attempts=retry_policy.tries,
                timeout=retry_policy.total_seconds,
                wait_initial=retry_policy.wait_initial_seconds,
                wait_max=retry_policy.wait_max_seconds,
                wait_jitter=_JITTER_SECONDS,
            )
        )


class ConcurrencyLimiter:
    """Semaphores by address and by organisation and address; they live as long as a call holds or awaits them."""

    def __init__(self, max_concurrency: int) -> None:
        self._max_concurrency = max_concurrency
        self._max_per_organisation = -(-3 * max_concurrency // 4)
        self._semaphores: WeakValueDictionary[tuple[str | None, str], asyncio.Semaphore] = WeakValueDictionary()

    def semaphores(self, organisation: str, address: str) -> tuple[asyncio.Semaphore, ...]:
        """Return what a call acquires, in this order; keep the reference until they are released."""
        return (
            self._semaphore((organisation, address), self._max_per_organisation),
            self._semaphore((None, address), self._max_concurrency),
        )

    def _semaphore(self, key: tuple[str | None, str], value: int) -> asyncio.Semaphore:
        if (semaphore := self._semaphores.get(key)) is None:
            semaphore = self._semaphores[key] = asyncio.Semaphore(value)
        return semaphore


class QueueTimeout(Unavailable):
    """No slot became free in time; it is not retried, as that would only mean more waiting."""


def _address(prepared: PreparedRequest) -> str:
    return f"{prepared.provider} {urlsplit(prepared.url).netloc}"
