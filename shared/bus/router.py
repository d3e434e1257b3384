"""The answering side: one function per message, errors turned into `Failure`s, heartbeats for what takes long; and one
function per job (`shared/bus/jobs.py`).

Whatever happens to a request that was taken (an error, an answer too large for the bus, the process told to stop), its
caller hears of it.
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
from shared.bus.jobs import TRIES, JobRoute, JobWorker
from shared.bus.wire import BEAT, CANCEL, DONE, END, FAILURE, KIND, TIMEOUT
from shared.contracts.message import Job, Request
from shared.errors import PLATFORM, Internal, Problem, TooLarge, Unavailable

logger = logging.getLogger(__name__)

D = TypeVar("D")
M = TypeVar("M", bound=Request[Any])
J = TypeVar("J", bound=Job)
Answer = Callable[[M, D], Awaitable[BaseModel]]
Stream = Callable[[M, D], AsyncIterator[BaseModel]]
Work = Callable[[J, D], Awaitable[None]]
_Work = Callable[[Msg], Coroutine[Any, Any, None]]

_QUEUE_SHARE = 0.9
"""Of the time a caller waits for its answer, the part its request may wait for a free worker."""
_REMEMBERED_LEAVERS = 4096
"""Callers who left before their call was taken up here; every replica hears of all of them."""


class _Route(NamedTuple):
    message: type[Request[Any]]
    function: Callable[..., Any]
    streams: bool
    workers: int


class Router(Generic[D]):
    """The handlers of one concept. `D` is what the service's handlers work with (its `deps.py`)."""

    def __init__(self) -> None:
        self._routes: list[_Route] = []
        self._jobs: list[JobRoute] = []

    def answers(self, message: type[M], *, workers: int = 64) -> Callable[[Answer[M, D]], Answer[M, D]]:
        """Register the function that answers `message`; at most `workers` at a time in this process."""

        def register(function: Answer[M, D]) -> Answer[M, D]:
            self._routes.append(_Route(message, function, streams=False, workers=workers))
            return function

        return register

    def streams(self, message: type[M], *, workers: int = 1024) -> Callable[[Stream[M, D]], Stream[M, D]]:
        """Register an async generator: what it yields before the reply type are chunks, the reply comes last.

        Its caller has the reply at once, yet relies on it only when the generator has ended without an error: what
        makes the reply true (a write) may be waited for after the yield, while the caller prepares its own answer.

        When the caller leaves, the generator ends where it is: by CancelledError where it awaits, by GeneratorExit
        where it yields. What must happen then belongs into `finally`, where it may await.
        """

        def register(function: Stream[M, D]) -> Stream[M, D]:
            self._routes.append(_Route(message, function, streams=True, workers=workers))
            return function

        return register

    def works(self, job: type[J], *, workers: int = 4, tries: int = TRIES) -> Callable[[Work[J, D]], Work[J, D]]:
        """Register the function that works on `job`: at most `workers` at a time in this process.

        It must be safe to run twice. When it raises, the job is tried again after a growing delay, see
        `shared.bus.jobs.retry_delay_seconds`. After `tries` tries, or at once if what it raises is a `Problem` that is
        not retryable, the job goes to `DEAD`. When the process stops, the function has 8 s before it is cancelled;
        the job goes to another process then, and that was no try. A kill is one. Whatever computes for seconds belongs
        in a thread: a blocked event loop looks like a death.
        """

        def register(function: Work[J, D]) -> Work[J, D]:
            self._jobs.append(JobRoute(job, function, workers, tries))
            return function

        return register

    def attach(self, bus: Bus, deps: D) -> None:
        """Subscribe every handler, in the service's queue group, and start working on jobs."""
        calls = _Calls()
        if any(route.streams for route in self._routes):
            bus.broker.subscriber(f"{bus.service}.{CANCEL}", no_reply=True)(calls.leave)
        for route in self._routes:
            work = _streaming(route, bus, deps, calls) if route.streams else _answering(route, bus, deps)
            bus.broker.subscriber(route.message.subject, queue=bus.service, no_reply=True)(_taking(bus, work))
        for job in self._jobs:
            JobWorker(job, bus, deps).start()


class _Calls:
    """Streamed calls under way, and callers who left already."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}
        self._left: OrderedDict[str, None] = OrderedDict()

    async def leave(self, message: NatsMessage) -> None:
        """A caller has left. Its call may be here, at another replica, or still on its way to us."""
        reply_to = message.raw_message.data.decode()
        task = self._running.pop(reply_to, None)
        if task is not None:
            task.cancel()
            return
        self._left[reply_to] = None
        if len(self._left) > _REMEMBERED_LEAVERS:
            self._left.popitem(last=False)

    def start(self, reply_to: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a call so that its caller's leaving ends it."""
        task = asyncio.create_task(work)
        if reply_to in self._left:
            del self._left[reply_to]
            task.cancel()
        else:
            self._running[reply_to] = task
        return task

    def end(self, reply_to: str) -> None:
        """The call is over."""
        self._running.pop(reply_to, None)


def _taking(bus: Bus, work: _Work) -> Callable[[NatsMessage], Awaitable[None]]:
    """Take a message and work on it beside the others: the subscription is free for the next at once.

    FastStream's `max_workers` is not used: on stop it drops what waits for a worker.
    """

    async def take(message: NatsMessage) -> None:
        bus.track_task(work(message.raw_message))

    return take


def _problem(error: BaseException, subject: str) -> Problem:
    """What the caller is told; defects are logged here, where the trace is."""
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("The service was stopped before it had finished. Try again.")
    if isinstance(error, MaxPayloadError):
        return TooLarge("The answer is more than fits into one message of the bus; ask for less at once.")
    if not isinstance(error, Problem):
        logger.error("%s failed", subject, exc_info=error)
        return Internal("Something went wrong on our side; the service's log has the details.")
    if error.level >= logging.WARNING:
        # Another's words may quote what a caller wants kept nowhere.
        said = error.message if error.origin == PLATFORM else f"{error.origin}: {error.code}"
        logger.log(error.level, "%s: %s", subject, said, extra={"status": error.status})
    return error


async def _reply(bus: Bus, raw: Msg, answer: BaseModel, kind: str | None = None) -> None:
    if raw.reply:
        headers = {KIND: kind} if kind else None
        await bus.client.publish(raw.reply, answer.model_dump_json().encode(), headers=headers)


async def _fail(bus: Bus, raw: Msg, error: BaseException, subject: str) -> None:
    failure = _problem(error, subject).failure()
    try:
        await _reply(bus, raw, failure, FAILURE)
    except NatsError as lost:
        logger.warning("%s: its caller could not be told: %r", subject, lost)


def _timeout_seconds(raw: Msg) -> float:
    """Return how long the caller waits; senders that did not say it yet wait `REQUEST_TIMEOUT_SECONDS`."""
    try:
        return float((raw.headers or {}).get(TIMEOUT, REQUEST_TIMEOUT_SECONDS))
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


def _answering(route: _Route, bus: Bus, deps: Any) -> _Work:  # noqa: ANN401
    subject = route.message.subject
    workers = asyncio.Semaphore(route.workers)

    async def answer(raw: Msg) -> None:
        async with _worker(workers, _timeout_seconds(raw)):
            reply = await route.function(route.message.model_validate_json(raw.data), deps)
        await _reply(bus, raw, reply)

    async def work(raw: Msg) -> None:
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.incoming(raw.headers), kind=SpanKind.SERVER
        ) as span:
            try:
                await answer(raw)
            except (Exception, asyncio.CancelledError) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await _fail(bus, raw, error, subject)
                if isinstance(error, asyncio.CancelledError):
                    raise

    return work


def _streaming(route: _Route, bus: Bus, deps: Any, calls: _Calls) -> _Work:  # noqa: ANN401
    subject = route.message.subject
    reply_type = route.message.reply_type()
    workers = asyncio.Semaphore(route.workers)

    async def stream(raw: Msg) -> None:
        answered = False
        request = route.message.model_validate_json(raw.data)
        async with workers, contextlib.aclosing(route.function(request, deps)) as parts:
            async for part in parts:
                answered = isinstance(part, reply_type)
                await _reply(bus, raw, part, DONE if answered else None)
        if answered:
            await bus.client.publish(raw.reply, b"", headers={KIND: END})
        else:
            raise TypeError(f"{subject} ended without a {reply_type.__name__}")

    async def run(raw: Msg) -> None:
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.incoming(raw.headers), kind=SpanKind.SERVER
        ) as span:
            try:
                await stream(raw)
            except (Exception, asyncio.CancelledError) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await _fail(bus, raw, error, subject)
                if isinstance(error, asyncio.CancelledError):
                    raise

    async def work(raw: Msg) -> None:
        task = calls.start(raw.reply, run(raw))
        try:
            while not (await asyncio.wait({task}, timeout=bus.heartbeat_seconds))[0]:
                with contextlib.suppress(NatsError):
                    await bus.client.publish(raw.reply, b"", headers={KIND: BEAT})
        except asyncio.CancelledError:
            task.cancel()  # the process stops; the call says so itself
            await asyncio.wait({task})
            raise
        finally:
            calls.end(raw.reply)

    return work
