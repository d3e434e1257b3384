"""The answering side: one function per message, errors turned into `Failure`s, heartbeats for what takes long."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

from faststream.nats import NatsMessage
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind, Status, StatusCode
from pydantic import BaseModel

from shared import telemetry
from shared.bus.client import Bus
from shared.bus.wire import BEAT, BEAT_SECONDS, CANCEL, DONE, FAILURE, KIND
from shared.contracts.message import Request
from shared.errors import Internal, Problem

logger = logging.getLogger(__name__)

D = TypeVar("D")
M = TypeVar("M", bound=Request[Any])
Answer = Callable[[M, D], Awaitable[BaseModel]]
Stream = Callable[[M, D], AsyncIterator[BaseModel]]


class _Route(NamedTuple):
    message: type[Request[Any]]
    function: Callable[..., Any]
    streams: bool
    workers: int


class Router(Generic[D]):
    """The handlers of one concept. `D` is what the service's handlers work with (its `deps.py`)."""

    def __init__(self) -> None:
        self._routes: list[_Route] = []

    def answers(self, message: type[M], *, workers: int = 64) -> Callable[[Answer[M, D]], Answer[M, D]]:
        """Register the function that answers `message`; at most `workers` at a time in this process."""

        def register(function: Answer[M, D]) -> Answer[M, D]:
            self._routes.append(_Route(message, function, streams=False, workers=workers))
            return function

        return register

    def streams(self, message: type[M], *, workers: int = 1024) -> Callable[[Stream[M, D]], Stream[M, D]]:
        """Register an async generator: what it yields before the reply type are chunks, the reply comes last."""

        def register(function: Stream[M, D]) -> Stream[M, D]:
            self._routes.append(_Route(message, function, streams=True, workers=workers))
            return function

        return register

    def attach(self, bus: Bus, deps: D) -> None:
        """Subscribe every handler, in the service's queue group."""
        running: dict[str, asyncio.Task[Any]] = {}
        if any(route.streams for route in self._routes):

            async def cancel(message: NatsMessage) -> None:
                task = running.get(message.raw_message.data.decode())
                if task is not None:
                    task.cancel()

            bus.broker.subscriber(f"{bus.service}.{CANCEL}", no_reply=True)(cancel)
        for route in self._routes:
            subscriber = bus.broker.subscriber(
                route.message.subject, queue=bus.service, max_workers=route.workers, no_reply=True
            )
            subscriber(_streaming(route, bus, deps, running) if route.streams else _answering(route, bus, deps))


def _failure(error: Exception, subject: str) -> bytes:
    """What the caller is told; defects are logged here, where the trace is."""
    if not isinstance(error, Problem):
        logger.error("%s failed", subject, exc_info=error)
        error = Internal("Something went wrong on our side; the service's log has the details.")
    elif error.level >= logging.WARNING:
        logger.log(error.level, "%s: %s", subject, error.message, extra={"status": error.status})
    return error.failure().model_dump_json().encode()


def _answering(route: _Route, bus: Bus, deps: Any) -> Callable[[NatsMessage], Awaitable[None]]:  # noqa: ANN401
    subject = route.message.subject

    async def handle(message: NatsMessage) -> None:
        raw: Msg = message.raw_message
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.incoming(raw.headers), kind=SpanKind.SERVER
        ) as span:
            headers = None
            try:
                reply = await route.function(route.message.model_validate_json(raw.data), deps)
                payload = reply.model_dump_json().encode()
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller must get an answer
                payload, headers = _failure(error, subject), {KIND: FAILURE}
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        if raw.reply:
            await bus.client.publish(raw.reply, payload, headers=headers)

    return handle


def _streaming(
    route: _Route,
    bus: Bus,
    deps: Any,  # noqa: ANN401
    running: dict[str, asyncio.Task[Any]],
) -> Callable[[NatsMessage], Awaitable[None]]:
    subject = route.message.subject
    reply_type = route.message.reply_type()

    async def run(raw: Msg) -> None:
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.incoming(raw.headers), kind=SpanKind.SERVER
        ) as span:
            try:
                async for part in route.function(route.message.model_validate_json(raw.data), deps):
                    headers = {KIND: DONE} if isinstance(part, reply_type) else None
                    await bus.client.publish(raw.reply, part.model_dump_json().encode(), headers=headers)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller must get an answer
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await bus.client.publish(raw.reply, _failure(error, subject), headers={KIND: FAILURE})

    async def handle(message: NatsMessage) -> None:
        raw: Msg = message.raw_message
        task = running[raw.reply] = asyncio.create_task(run(raw))
        try:
            while not (await asyncio.wait({task}, timeout=BEAT_SECONDS))[0]:
                await bus.client.publish(raw.reply, b"", headers={KIND: BEAT})
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            del running[raw.reply]
            task.cancel()

    return handle
