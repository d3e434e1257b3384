"""Calls a provider under limits: concurrency per address, a circuit breaker per model, retries with backoff, one total
timeout.

concurrency   at most `max_concurrency` calls at a time to one address, shared among organisations
              (`shared/fair_limiter.py`): one alone gets three quarters, others wait for one to end. A stream that its
              caller does not read keeps its slot until the caller is cut off
circuit       a model that failed so many calls of an organisation in a row gets no more of them for a while
retries       after 429, 503, 529, 5xx or a failed connection: with growing delay and jitter, or after what Retry-After
              says; never once some of the answer has arrived
timeout       over all attempts and waits
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import stamina

from services.generation.models.request import ModelResponse, ResponseDelta, StreamAccumulator
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from services.generation.providers.resilience.circuit_breaker import CircuitBreaker, CircuitOpen
from services.generation.providers.transport.client import Client
from shared.errors import Problem, Unavailable
from shared.fair_limiter import FairLimiter

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

    accumulator: StreamAccumulator = field(default_factory=StreamAccumulator)
    """The events of the stream; of the last attempt, if there were several."""
    answer_started: bool = False
    """Whether some of the streamed answer has arrived: then the call is not made again."""
    may_have_cost: bool = False
    """Whether the provider may charge for it: it was sent, and not refused."""

    def mark_sent(self) -> None:
        """The request goes out to the provider now."""
        self.may_have_cost = True

    def add(self, delta: ResponseDelta) -> None:
        """Take the next event of the stream."""
        self.accumulator.add(delta)
        self.answer_started = self.answer_started or delta.has_content or delta.finish_reason is not None

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run one attempt; if it is refused, only earlier attempts may have cost something."""
        before = self.may_have_cost
        self.accumulator = StreamAccumulator()
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
        self._slots_by_address: WeakValueDictionary[str, FairLimiter] = WeakValueDictionary()
        self._breaker = CircuitBreaker(retry_policy.failure_threshold, retry_policy.open_seconds)

    async def complete(self, organisation: str, prepared: PreparedRequest, progress: CallProgress) -> ModelResponse:
        """Return the response of a request that is not streamed. Raises the problems of `providers/errors.py`."""
        last_error = _LastError(self._retry_policy, progress)
        async with self._limits(organisation, prepared):
            async for attempt in self._attempts():
                with attempt, last_error:
                    async with self._slot(organisation, prepared):
                        with progress.attempt():
                            return await self._client.complete(prepared, organisation, progress.mark_sent)
                last_error.raise_kept()
        raise AssertionError("the last attempt returns or raises")

    async def stream(
        self, organisation: str, prepared: PreparedRequest, progress: CallProgress
    ) -> AsyncGenerator[ResponseDelta, None]:
        """Yield the events of a streamed response. Raises the problems of `providers/errors.py`, at any point."""
        last_error = _LastError(self._retry_policy, progress)
        async with self._limits(organisation, prepared):
            async for attempt in self._attempts():
                with attempt, last_error:
                    async with (
                        self._slot(organisation, prepared),
                        aclosing(self._client.stream(prepared, organisation, progress.mark_sent)) as deltas,
                    ):
                        with progress.attempt():
                            async for delta in deltas:
                                progress.add(delta)
                                yield delta
                last_error.raise_kept()

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
        """Hold a slot of the provider's address. Raises QueueTimeout."""
        slots = self._slots(_address(prepared))
        if not slots.try_acquire(organisation):
            try:
                async with asyncio.timeout(self._retry_policy.queue_timeout_seconds):
                    await slots.acquire(organisation)
            except TimeoutError:
                raise QueueTimeout(
                    f"Too many calls to {prepared.title} are under way. Try again.", origin=prepared.title
                ) from None
        try:
            yield
        finally:
            slots.release(organisation)

    def _slots(self, address: str) -> FairLimiter:
        """Return the slots of an address; they live as long as a call holds or awaits one."""
        if (slots := self._slots_by_address.get(address)) is None:
            slots = self._slots_by_address[address] = FairLimiter(self._retry_policy.max_concurrency)
        return slots

    def _attempts(self) -> AsyncIterator[stamina.Attempt]:
        retry_policy = self._retry_policy
        return aiter(
            stamina.retry_context(
                on=_retry_after,  # what is not tried again never gets there: `_LastError` has it
                attempts=retry_policy.tries,
                timeout=retry_policy.total_seconds,
                wait_initial=retry_policy.wait_initial_seconds,
                wait_max=retry_policy.wait_max_seconds,
                wait_jitter=_JITTER_SECONDS,
            )
        )


def _retry_after(error: Exception) -> bool | float:
    """Return after how many seconds to try again if the provider says so, else True."""
    return (isinstance(error, Problem) and error.retry_after_seconds) or True


class _LastError:
    """Takes the error that ends a call around stamina.

    The objects of tenacity hold each other and the error they saw last: by the frames in its trace, all of the answer
    would stay in memory until cycles are collected; of hundreds of streams broken off at once, for minutes.
    """

    def __init__(self, retry_policy: RetryPolicy, progress: CallProgress) -> None:
        self._retry_policy = retry_policy
        self._progress = progress
        self._attempts = 0
        self._error: BaseException | None = None

    def __enter__(self) -> None:
        """Begin an attempt."""
        self._attempts += 1

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> bool:
        """Keep an error after which there is no other attempt; to be raised outside of the attempt."""
        if error is None or (self._attempts < self._retry_policy.tries and self._is_retried(error)):
            return False
        self._error = error
        return True

    def _is_retried(self, error: BaseException) -> bool:
        if self._progress.answer_started or not isinstance(error, Problem) or not errors.is_retryable(error):
            return False
        return (error.retry_after_seconds or 0) <= self._retry_policy.wait_max_seconds

    def raise_kept(self) -> None:
        """Raise the error that was kept, if there is one."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # else its trace, which has this frame, would hold it


class QueueTimeout(Unavailable):
    """No slot became free in time; it is not retried, as that would only mean more waiting."""


def _address(prepared: PreparedRequest) -> str:
    return f"{prepared.provider} {urlsplit(prepared.url).netloc}"
