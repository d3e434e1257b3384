"""The answering side of the bus: registers one handler per request or job, and answers requests with their results.

The caller of every request that was taken gets an answer, whatever happens (an error, an answer too large for the bus,
the process told to stop). Jobs are in `shared/bus/jobs.py`.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar

from faststream.nats import NatsMessage
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from opentelemetry.trace import SpanKind, Status, StatusCode
from pydantic import BaseModel

from shared import telemetry
from shared.bus.client import REQUEST_TIMEOUT_SECONDS, Bus
from shared.bus.jobs import DEFAULT_TRIES, JobRoute, JobWorker
from shared.bus.wire import (
    CANCEL,
    KIND_END,
    KIND_FAILURE,
    KIND_HEADER,
    KIND_HEARTBEAT,
    KIND_REPLY,
    TIMEOUT_HEADER,
    check_size,
)
from shared.contracts.message import Job, Request
from shared.errors import PLATFORM, Internal, Problem, TooLarge, Unavailable

logger = logging.getLogger(__name__)

D = TypeVar("D")
M = TypeVar("M", bound=Request[Any])
J = TypeVar("J", bound=Job)
RequestHandler = Callable[[M, D], Awaitable[BaseModel]]
StreamHandler = Callable[[M, D], AsyncIterator[BaseModel]]
JobHandler = Callable[[J, D], Awaitable[None]]
_MessageHandler = Callable[[Msg], Coroutine[Any, Any, None]]

_QUEUE_SHARE = 0.9
"""Of the time a caller waits for its answer, the part its request may wait for a free worker."""
_MAX_CANCELLED = 4096
"""Bounds the cancelled calls remembered because they were not taken up here: every replica gets all cancellations."""


_DEFECT_MESSAGE = "Something went wrong on our side; the service's log has the details."


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
        `shared.bus.jobs.retry_delay_seconds`. After `tries` tries, or at once if what it raises is a `Problem` that is
        not retryable, the job goes to `DEAD`. When the process stops, the function has 8 s before it is cancelled;
        the job goes to another process then, and that was no try. A kill is one. Whatever computes for seconds belongs
        in a thread: while the event loop is blocked the server gets no sign of progress, and redelivers the job.
        """

        def register(function: JobHandler[J, D]) -> JobHandler[J, D]:
            self._jobs.append(JobRoute(job, function, workers, tries))
            return function

        return register

    def attach(self, bus: Bus, deps: D) -> None:
        """Subscribe every request handler in the service's queue group, and start the job workers."""
        calls = _StreamedCalls()
        if any(route.streams for route in self._routes):
            bus.broker.subscriber(f"{bus.service}.{CANCEL}", no_reply=True)(calls.on_cancel)
        for route in self._routes:
            handle = _stream(route, bus, deps, calls) if route.streams else _answer(route, bus, deps)
            bus.broker.subscriber(route.message.subject, queue=bus.service, no_reply=True)(_as_task(bus, handle))
        for job in self._jobs:
            JobWorker(job, bus, deps).start()


class _StreamedCalls:
    """The streamed calls under way in this process, and those cancelled before they were taken up."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: OrderedDict[str, None] = OrderedDict()

    async def on_cancel(self, message: NatsMessage) -> None:
        """Cancel the call whose caller has left. It may be at another replica, or still on its way to this one."""
        reply_to = message.raw_message.data.decode()
        task = self._running.pop(reply_to, None)
        if task is not None:
            task.cancel()
            return
        self._cancelled[reply_to] = None
        if len(self._cancelled) > _MAX_CANCELLED:
            self._cancelled.popitem(last=False)

    def start(self, reply_to: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Return a task that runs `work`, and that `on_cancel` cancels."""
        task = asyncio.create_task(work)
        if reply_to in self._cancelled:
            del self._cancelled[reply_to]
            task.cancel()
        else:
            self._running[reply_to] = task
        return task

    def end(self, reply_to: str) -> None:
        """Forget a call that has ended."""
        self._running.pop(reply_to, None)


def _as_task(bus: Bus, handle: _MessageHandler) -> Callable[[NatsMessage], Awaitable[None]]:
    """Return a FastStream handler that starts a task per message: the subscription is free for the next at once.

    FastStream's `max_workers` is not used: on stop it drops what waits for a worker.
    """

    async def on_message(message: NatsMessage) -> None:
        bus.track_task(handle(message.raw_message))

    return on_message


def _problem(error: BaseException, subject: str) -> Problem:
    """Return what the caller is told. Defects are logged here, where the trace is."""
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("The service was stopped before it had finished. Try again.")
    if isinstance(error, MaxPayloadError):
        return TooLarge("The answer is more than fits into one message of the bus; ask for less at once.")
    if not isinstance(error, Problem):
        logger.error("%s failed", subject, exc_info=error)
        return Internal(_DEFECT_MESSAGE)
    if error.level >= logging.WARNING:
        # The message of a provider's error may quote a caller's data, which is kept nowhere.
        reason = error.message if error.origin == PLATFORM else f"{error.origin}: {error.code}"
        logger.log(error.level, "%s: %s", subject, reason, extra={"status": error.status})
    return error


async def _reply(bus: Bus, raw: Msg, answer: BaseModel, kind: str | None = None) -> None:
    if raw.reply:
        headers = {KIND_HEADER: kind} if kind else None
        payload = answer.model_dump_json().encode()
        check_size(bus.client, payload, headers)
        await bus.client.publish(raw.reply, payload, headers=headers)


async def _reply_failure(bus: Bus, raw: Msg, error: BaseException, subject: str) -> None:
    problem = _problem(error, subject)
    try:
        try:
            await _reply(bus, raw, problem.to_failure(), KIND_FAILURE)
        except ValueError as unsendable:  # a provider's text may have half of a surrogate pair, which is no Unicode
            logger.warning("%s: its problem cannot be sent: %s", subject, unsendable)
            await _reply(bus, raw, Internal(_DEFECT_MESSAGE).to_failure(), KIND_FAILURE)
    except NatsError as lost:
        logger.warning("%s: its caller could not be told: %r", subject, lost)


def _timeout_seconds(raw: Msg) -> float:
    """Return how long the caller waits; earlier versions did not send it and wait `REQUEST_TIMEOUT_SECONDS`."""
    try:
        return float((raw.headers or {}).get(TIMEOUT_HEADER, REQUEST_TIMEOUT_SECONDS))
    except ValueError:
        return REQUEST_TIMEOUT_SECONDS


@contextlib.asynccontextmanager
async def _worker(workers: asyncio.Semaphore, timeout_seconds: float) -> AsyncIterator[None]:
    """Wait for a worker nearly as long as the caller waits, so that it still gets the reason. Raises Unavailable."""
    try:
        async with asyncio.timeout(_QUEUE_SHARE * timeout_seconds):
            await workers.acquire()
    except TimeoutError:
        raise Unavailable("The service has more to do than it can at the moment. Try again.") from None
    try:
        yield
    finally:
        workers.release()


def _answer(route: _Route, bus: Bus, deps: Any) -> _MessageHandler:  # noqa: ANN401
    """Return the function that answers a request message of this route: with the handler's result, or a `Failure`."""
    subject = route.message.subject
    workers = asyncio.Semaphore(route.workers)

    async def run_handler(raw: Msg) -> None:
        async with _worker(workers, _timeout_seconds(raw)):
            reply = await route.function(route.message.model_validate_json(raw.data), deps)
        await _reply(bus, raw, reply)

    async def handle(raw: Msg) -> None:
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.context_from_headers(raw.headers), kind=SpanKind.SERVER
        ) as span:
            try:
                await run_handler(raw)
            except (Exception, asyncio.CancelledError) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await _reply_failure(bus, raw, error, subject)
                if isinstance(error, asyncio.CancelledError):
                    raise

    return handle


def _stream(route: _Route, bus: Bus, deps: Any, calls: _StreamedCalls) -> _MessageHandler:  # noqa: ANN401
    """Return the function that answers a request message of this route: with chunks, the reply and heartbeats."""
    subject = route.message.subject
    reply_type = route.message.reply_type()
    workers = asyncio.Semaphore(route.workers)

    async def run_handler(raw: Msg) -> None:
        answered = False
        request = route.message.model_validate_json(raw.data)
        async with workers, contextlib.aclosing(route.function(request, deps)) as parts:
            async for part in parts:
                answered = isinstance(part, reply_type)
                await _reply(bus, raw, part, KIND_REPLY if answered else None)
        if answered:
            await bus.client.publish(raw.reply, b"", headers={KIND_HEADER: KIND_END})
        else:
            raise TypeError(f"{subject} ended without a {reply_type.__name__}")

    async def run(raw: Msg) -> None:
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.context_from_headers(raw.headers), kind=SpanKind.SERVER
        ) as span:
            try:
                await run_handler(raw)
            except (Exception, asyncio.CancelledError) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await _reply_failure(bus, raw, error, subject)
                if isinstance(error, asyncio.CancelledError):
                    raise

    async def handle(raw: Msg) -> None:
        task = calls.start(raw.reply, run(raw))
        try:
            while not (await asyncio.wait({task}, timeout=bus.heartbeat_seconds))[0]:
                with contextlib.suppress(NatsError):
                    await bus.client.publish(raw.reply, b"", headers={KIND_HEADER: KIND_HEARTBEAT})
        except asyncio.CancelledError:
            task.cancel()  # the process stops; `run` tells the caller
            await asyncio.wait({task})
            raise
        finally:
            calls.end(raw.reply)

    return handle
