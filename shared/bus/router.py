"""The answering side of the bus: registers one handler per request or job, and answers requests with their results.

The caller of every request that was taken gets an answer, whatever happens (an error, an answer too large for the bus,
the process told to stop). Jobs are in `shared/bus/jetstream/jobs.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar

from faststream.nats import NatsMessage
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind, Status, StatusCode
from pydantic import BaseModel

from shared import telemetry
from shared.bus.admission import hold_worker, organisation_of
from shared.bus.authorization import authorize_request
from shared.bus.client import REQUEST_TIMEOUT_SECONDS, Bus
from shared.bus.jetstream.jobs import DEFAULT_TRIES, JobRoute, JobWorker
from shared.bus.replies import reply, reply_failure
from shared.bus.streamed_calls import StreamedCalls, StreamedRoute
from shared.bus.wire import CANCEL, TIMEOUT_HEADER
from shared.contracts.message import Job, Request
from shared.fair_limiter import FairLimiter

D = TypeVar("D")
M = TypeVar("M", bound=Request[Any])
J = TypeVar("J", bound=Job)
RequestHandler = Callable[[M, D], Awaitable[BaseModel]]
StreamHandler = Callable[[M, D], AsyncIterator[BaseModel]]
JobHandler = Callable[[J, D], Awaitable[None]]
_MessageHandler = Callable[[Msg], Coroutine[Any, Any, None]]

_QUEUE_SHARE = 0.9
"""Of the time a caller waits for its answer, the part its request may wait for a free worker."""


class _Route(NamedTuple):
    message: type[Request[Any]]
    function: Callable[..., Any]
    streams: bool
    workers: int


class Router(Generic[D]):
    """The handlers of one concept. `D` is the service's dependencies (its `deps.py`), passed to every handler."""

    def __init__(self) -> None:
        self._routes: list[_Route] = []
        self._jobs: list[JobRoute] = []

    def answers(self, message: type[M], *, workers: int = 64) -> Callable[[RequestHandler[M, D]], RequestHandler[M, D]]:
        """Register the function that answers `message`; at most `workers` run at a time in this process."""

        def register(function: RequestHandler[M, D]) -> RequestHandler[M, D]:
            self._routes.append(_Route(message, function, streams=False, workers=workers))
            return function

        return register

    def streams(self, message: type[M], *, workers: int = 1024) -> Callable[[StreamHandler[M, D]], StreamHandler[M, D]]:
        """Register an async generator that answers `message`: it yields chunks, then the reply, once and last.

        The caller receives the reply at once, yet relies on it only when the generator has ended without an error: what
        makes the reply true (a write) may be awaited after the yield, while the caller prepares its own answer.

        When the caller leaves, the generator ends where it is: by CancelledError where it awaits, by GeneratorExit
        where it yields. What must happen then belongs into `finally`, where it may await.
        """

        def register(function: StreamHandler[M, D]) -> StreamHandler[M, D]:
            self._routes.append(_Route(message, function, streams=True, workers=workers))
            return function

        return register

    def works(
        self, job: type[J], *, workers: int = 4, tries: int = DEFAULT_TRIES
    ) -> Callable[[JobHandler[J, D]], JobHandler[J, D]]:
        """Register the function that works on `job`; at most `workers` run at a time in this process.

        It must be safe to run twice. When it raises, the job is tried again after a growing delay, see
        `shared.bus.jetstream.jobs.retry_delay_seconds`. After `tries` tries, or at once if what it raises is a
        `Problem` that is not retryable, the job goes to `DEAD`. When the process stops, the function has 8 s before it
        is cancelled; the job goes to another process then, and that was no try. A kill is one. Whatever computes for
        seconds belongs in a thread: while the event loop is blocked the server gets no sign of progress, and redelivers
        the job.
        """

        def register(function: JobHandler[J, D]) -> JobHandler[J, D]:
            self._jobs.append(JobRoute(job, function, workers, tries))
            return function

        return register

    def attach(self, bus: Bus, deps: D) -> None:
        """Subscribe every request handler in the service's queue group, and start the job workers."""
        calls = StreamedCalls()
        if any(route.streams for route in self._routes):
            bus.broker.subscriber(f"{bus.service}.{CANCEL}", no_reply=True)(calls.on_cancel)
        for route in self._routes:
            handle = _stream(route, bus, deps, calls) if route.streams else _answer(route, bus, deps)
            bus.broker.subscriber(route.message.subject, queue=bus.service, no_reply=True)(_as_task(bus, handle))
        for job in self._jobs:
            JobWorker(job, bus, deps).start()


def _as_task(bus: Bus, handle: _MessageHandler) -> Callable[[NatsMessage], Awaitable[None]]:
    """Return a FastStream handler that starts a task per message: the subscription is free for the next at once.

    FastStream's `max_workers` is not used: on stop it drops what waits for a worker.
    """

    async def on_message(message: NatsMessage) -> None:
        bus.track_task(handle(message.raw_message))

    return on_message


def _timeout_seconds(raw: Msg) -> float:
    """Return how long the caller waits; earlier versions did not send it and wait `REQUEST_TIMEOUT_SECONDS`."""
    try:
        return float((raw.headers or {}).get(TIMEOUT_HEADER, REQUEST_TIMEOUT_SECONDS))
    except ValueError:
        return REQUEST_TIMEOUT_SECONDS


def _answer(route: _Route, bus: Bus, deps: Any) -> _MessageHandler:  # noqa: ANN401
    """Return the function that answers a request message of this route: with the handler's result, or a `Failure`."""
    subject = route.message.subject
    workers = FairLimiter(route.workers)

    async def run_handler(raw: Msg) -> None:
        request = route.message.model_validate_json(raw.data)
        authorize_request(request)
        organisation = organisation_of(request, raw)
        with bus.budget.hold(organisation, len(raw.data)):
            await bus.fair_order.wait(organisation)
            # Nearly as long as the caller waits, so that it still gets the reason.
            async with hold_worker(workers, organisation, _QUEUE_SHARE * _timeout_seconds(raw)):
                answer = await route.function(request, deps)
            await reply(bus, raw, answer)

    async def handle(raw: Msg) -> None:
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.context_from_headers(raw.headers), kind=SpanKind.SERVER
        ) as span:
            try:
                await run_handler(raw)
            except (Exception, asyncio.CancelledError) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await reply_failure(bus, raw, error, subject)
                if isinstance(error, asyncio.CancelledError):
                    raise

    return handle


def _stream(route: _Route, bus: Bus, deps: Any, calls: StreamedCalls) -> _MessageHandler:  # noqa: ANN401
    """Return the function that answers a request message of this route: with chunks, the reply and heartbeats."""
    streamed = StreamedRoute(route.message, route.function, route.workers, calls)
    return lambda raw: streamed.answer(raw, bus, deps)
