"""The answering side of streamed commands: the calls under way, their heartbeats, and how fast their parts are sent."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from faststream.nats import NatsMessage
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from opentelemetry.trace import SpanKind, Status, StatusCode
from pydantic import BaseModel

from shared import telemetry
from shared.bus.admission import hold_worker, organisation_of
from shared.bus.authorization import authorize_request
from shared.bus.client import Bus
from shared.bus.replies import reply_failure
from shared.bus.wire import (
    CONSUMED_HEADER,
    KIND_END,
    KIND_HEADER,
    KIND_HEARTBEAT,
    KIND_REPLY,
    WAITING_HEADER,
    WINDOW_HEADER,
    check_size,
    part_cost,
)
from shared.contracts.message import Request
from shared.errors import Unavailable
from shared.fair_limiter import FairLimiter

QUEUE_SECONDS = 30.0
"""How long a streamed command waits for a free worker."""
_MAX_CANCELLED = 4096
"""Bounds the cancelled calls remembered because they were not taken up here: every replica gets all cancellations."""


class PartSender:
    """Sends the parts of one call: if its caller has a window, no more than that beyond what it has consumed."""

    def __init__(self, bus: Bus, raw: Msg) -> None:
        self._bus = bus
        self._reply_to = raw.reply
        window = (raw.headers or {}).get(WINDOW_HEADER)
        self._window = int(window) if window else None
        """None: a caller of an earlier version, which reads whatever comes."""
        self._sent = 0
        self._consumed = 0
        self._parts = 0
        self._told = asyncio.Event()
        self._waits = False

    @property
    def _subject(self) -> str:
        return self._reply_to if self._window is None else f"{self._reply_to}.{self._parts}"

    async def send(self, part: BaseModel, kind: str | None) -> None:
        """Send a part when its caller can take it. Raises Unavailable if the caller is gone, and errors of nats-py."""
        payload = part.model_dump_json().encode()
        headers = {KIND_HEADER: kind} if kind else None
        check_size(self._bus.client, payload, headers)
        await self._wait_for_window()
        self._parts += 1
        self._sent += part_cost(payload)
        await self._bus.client.publish(self._subject, payload, headers=headers)

    async def _wait_for_window(self) -> None:
        while self._window is not None and self._sent - self._consumed >= self._window:
            self._told.clear()
            self._waits = True
            try:
                async with asyncio.timeout(self._bus.silence_seconds):
                    await self._told.wait()
            except TimeoutError:
                raise Unavailable("The caller of a stream answers no heartbeats; it is gone.") from None
            finally:
                self._waits = False

    def set_consumed(self, consumed: int) -> None:
        """Take what the caller tells: how much it has consumed since the call began."""
        self._consumed = max(self._consumed, consumed)
        self._told.set()

    async def send_heartbeat(self) -> None:
        """Tell the caller that the call is worked on, and how many parts were sent."""
        headers = {KIND_HEADER: KIND_HEARTBEAT}
        if self._waits:
            headers[WAITING_HEADER] = "1"
        with contextlib.suppress(NatsError):
            await self._bus.client.publish(self._subject, b"", headers=headers)

    async def send_end(self) -> None:
        """Tell the caller that nothing follows and the reply may be relied on."""
        await self._bus.client.publish(self._subject, b"", headers={KIND_HEADER: KIND_END})


class StreamedCalls:
    """The streamed calls under way in this process, and those cancelled before they were taken up."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[asyncio.Task[None], PartSender]] = {}
        self._cancelled: OrderedDict[str, None] = OrderedDict()

    async def on_cancel(self, message: NatsMessage) -> None:
        """Take what a caller tells of a call that may be at another replica, or still on its way to this one.

        It has left, and the call is cancelled; or it has consumed parts.
        """
        raw = message.raw_message
        reply_to = raw.data.decode()
        consumed = (raw.headers or {}).get(CONSUMED_HEADER)
        if consumed is not None:
            if running := self._running.get(reply_to):
                running[1].set_consumed(int(consumed))
            return
        if running := self._running.pop(reply_to, None):
            running[0].cancel()
            return
        self._cancelled[reply_to] = None
        if len(self._cancelled) > _MAX_CANCELLED:
            self._cancelled.popitem(last=False)

    def start(self, reply_to: str, work: Coroutine[Any, Any, None], parts: PartSender) -> "asyncio.Task[None]":
        """Return a task that runs `work`, and that `on_cancel` cancels."""
        task = asyncio.create_task(work)
        if reply_to in self._cancelled:
            del self._cancelled[reply_to]
            task.cancel()
        else:
            self._running[reply_to] = (task, parts)
        return task

    def end(self, reply_to: str) -> None:
        """Forget a call that has ended."""
        self._running.pop(reply_to, None)


class StreamedRoute:
    """Answers the messages of one class: with chunks, the reply, and heartbeats meanwhile."""

    def __init__(
        self,
        message: type[Request[Any]],
        function: Callable[[Any, Any], AsyncIterator[BaseModel]],
        workers: int,
        calls: StreamedCalls,
    ) -> None:
        self._message = message
        self._function = function
        self._workers = FairLimiter(workers)
        self._calls = calls

    async def answer(self, raw: Msg, bus: Bus, deps: Any) -> None:  # noqa: ANN401 - each service has its own
        """Answer one message; return when that is done."""
        parts = PartSender(bus, raw)
        task = self._calls.start(raw.reply, self._run(raw, parts, bus, deps), parts)
        try:
            while not (await asyncio.wait({task}, timeout=bus.heartbeat_seconds))[0]:
                await parts.send_heartbeat()
        except asyncio.CancelledError:
            task.cancel()  # the process stops; `_run` tells the caller
            await asyncio.wait({task})
            raise
        finally:
            self._calls.end(raw.reply)

    async def _run(self, raw: Msg, parts: PartSender, bus: Bus, deps: Any) -> None:  # noqa: ANN401
        subject = self._message.subject
        with telemetry.tracer.start_as_current_span(
            subject, context=telemetry.context_from_headers(raw.headers), kind=SpanKind.SERVER
        ) as span:
            try:
                await self._send_parts(raw, parts, bus, deps)
            except (Exception, asyncio.CancelledError) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                await reply_failure(bus, raw, error, subject)
                if isinstance(error, asyncio.CancelledError):
                    raise

    async def _send_parts(self, raw: Msg, parts: PartSender, bus: Bus, deps: Any) -> None:  # noqa: ANN401
        request = self._message.model_validate_json(raw.data)
        authorize_request(request)
        organisation, reply_type = organisation_of(request, raw), self._message.reply_type()
        answered = False
        with bus.budget.hold(organisation, len(raw.data)):
            await bus.fair_order.wait(organisation)
            async with (
                hold_worker(self._workers, organisation, QUEUE_SECONDS),
                contextlib.aclosing(self._function(request, deps)) as results,  # type: ignore[type-var]  # a generator
            ):
                async for part in results:
                    answered = isinstance(part, reply_type)
                    await parts.send(part, KIND_REPLY if answered else None)
        if not answered:
            raise TypeError(f"{self._message.subject} ended without a {reply_type.__name__}")
        await parts.send_end()
