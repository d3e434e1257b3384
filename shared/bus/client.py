"""The sending side of the bus: requests to services, records for streams, events and jobs."""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from nats.aio.msg import Msg
from nats.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionReconnectingError,
    MaxPayloadError,
    NoRespondersError,
    OutboundBufferLimitError,
)
from nats.errors import TimeoutError as NatsTimeoutError
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ValidationError

from shared import telemetry
from shared.bus.admission import RequestBudget
from shared.bus.connection import Connection
from shared.bus.jetstream.appends import append
from shared.bus.streamed_replies import StreamedReplies
from shared.bus.wire import TIMEOUT_HEADER, TOO_LARGE_MESSAGE, check_size, problem_from_reply
from shared.contracts.dead_letters import ORGANISATION_HEADER
from shared.contracts.message import Command, Event, Job, Query, Request, SystemQuery
from shared.errors import TooLarge, Unavailable
from shared.fair_order import FairOrder
from shared.settings import ServiceSettings

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=BaseModel)
E = TypeVar("E", bound=Event)

REQUEST_TIMEOUT_SECONDS = 5.0
"""How long the caller of a query or a short command waits, unless it says otherwise."""
MAX_JOB_BYTES = 1024 * 1024
_CONNECTION_ERRORS = (
    NatsTimeoutError,
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionReconnectingError,
    OutboundBufferLimitError,
)
"""What nats-py raises when it is not known whether a message has arrived."""


class Bus(Connection):
    """Sends messages over a process's connection."""

    def __init__(self, settings: ServiceSettings, service: str) -> None:
        super().__init__(settings, service)
        self.heartbeat_seconds = settings.bus_heartbeat_seconds
        self.silence_seconds = settings.bus_silence_seconds
        self.budget = RequestBudget()
        """Of the requests that this process answers."""
        self.fair_order = FairOrder()
        self._streamed = StreamedReplies(self, settings.bus_silence_seconds)

    async def request(self, request: Request[R], *, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS) -> R:
        """Send a query or a short command and return its answer.

        Raises the `Problem` the handler raised; Unavailable at once if the service is down, or after
        `timeout_seconds` without an answer; TooLarge if the message exceeds 8 MB.
        """
        owner = request.subject.partition(".")[0]
        with telemetry.tracer.start_as_current_span(f"request {request.subject}", kind=SpanKind.CLIENT):
            client = await self.connected_client()
            payload = request.model_dump_json().encode()
            headers = {TIMEOUT_HEADER: f"{timeout_seconds:g}", **telemetry.trace_headers()}
            try:
                check_size(client, payload, headers)
                if isinstance(request, Query | SystemQuery):
                    message = await self._send_query(request.subject, payload, timeout_seconds, headers)
                else:  # its reply may still come over the next connection
                    message = await client.request(request.subject, payload, timeout=timeout_seconds, headers=headers)
            except NoRespondersError:
                raise Unavailable(f"The {owner} service is away.") from None
            except MaxPayloadError:
                raise TooLarge(TOO_LARGE_MESSAGE) from None
            except _CONNECTION_ERRORS as error:
                raise Unavailable(f"The {owner} service did not answer in time.") from error
        if problem := problem_from_reply(message):
            raise problem
        return request.reply_type().model_validate_json(message.data)

    async def _send_query(self, subject: str, payload: bytes, timeout_seconds: float, headers: dict[str, str]) -> Msg:
        """Return the reply; send the query again over the next connection when the one it was sent over is lost."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                return await self.send_request(
                    subject, payload, timeout_seconds=deadline - time.monotonic(), headers=headers
                )
            except ConnectionReconnectingError:
                if time.monotonic() >= deadline:
                    raise

    def stream_request(
        self, command: Command[R], chunk: type[BaseModel] | None = None
    ) -> AsyncGenerator[BaseModel, None]:
        """Send a command that streams or takes long; yield any number of `chunk`, then the command's reply.

        The reply may be relied on only when the iterator has ended: a failure may still follow it. Raises as `request`
        does; instead of a timeout for the whole there is one for the time without even a heartbeat
        (`bus_silence_seconds`). Also raises RateLimited if the organisation has its share of streamed requests under
        way, and Unavailable if a part was lost on its way.

        Whoever iterates slowly slows the handler down, which waits while more than `WINDOW_BYTES` are not consumed.
        Leaving the iterator early cancels the handler; use `contextlib.aclosing`, or that happens only when the
        generator is collected.
        """
        return self._streamed.request(command, chunk)

    async def append(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        timeout_seconds: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Append to the stream that has `subject`; return the stream sequence once the message is durable.

        A repeat with the same `message_id` within the stream's duplicate window stores nothing new, so the message is
        sent again while the stream cannot decide. Raises Unavailable if it may not be stored, TooLarge over 8 MB.
        """
        return await append(
            self, subject, payload, message_id=message_id, timeout_seconds=timeout_seconds, headers=headers
        )

    async def subscribe(self, event: type[E], callback: Callable[[E | None], None]) -> None:
        """Call `callback` with every event of this class from now on, over core NATS; for invalidating caches.

        Every process that subscribes gets every event, at most once. `callback` gets None in place of an event that
        cannot be read (a newer sender's, perhaps) and after each reconnect, when any event may have been missed.
        """
        warned = False

        async def on_message(message: Msg) -> None:
            nonlocal warned
            received: E | None = None
            try:
                received = event.model_validate_json(message.data)
            except ValidationError as error:
                if not warned:
                    warned = True
                    wrong = [(item["loc"], item["type"]) for item in error.errors()]
                    logger.warning("%s cannot be read, all it may be about is forgotten: %s", message.subject, wrong)
            callback(received)

        await (await self.connected_client()).subscribe(event.wildcard_subject(), cb=on_message)
        self.on_reconnect(lambda: callback(None))

    async def enqueue(self, job: Job) -> None:
        """Append a job to the work queue `JOBS`; it is durable on return. Its owner has a `Router.works` for it.

        Repeating a job's id within 15 minutes enqueues nothing new; after that, or after a restart of NATS if the job
        was done meanwhile, it does, which is why a handler must be safe to run twice. Raises Unavailable if the job may
        not be stored, TooLarge over 1 MiB.
        """
        payload = job.model_dump_json(exclude_none=True).encode()
        if len(payload) > MAX_JOB_BYTES:
            raise TooLarge(
                f"A job may take 1 MiB, this one has {len(payload)} bytes; send where to find what it needs."
            )
        with telemetry.tracer.start_as_current_span(f"enqueue {job.subject}", kind=SpanKind.PRODUCER):
            headers = {ORGANISATION_HEADER: job.organisation, **telemetry.trace_headers()}
            await self.append(job.subject, payload, message_id=job.id, headers=headers)

    async def publish_event(self, event: Event, *, message_id: str) -> None:
        """Append an event to the stream `EVENTS`; it is durable on return. Raises Unavailable.

        `message_id` is derived from the event's cause, so that repeats are dropped; it becomes the event's id. The
        event occurred now unless its `occurred_at` says otherwise.
        """
        occurred_at = event.occurred_at or datetime.now(UTC)
        sent = event.model_copy(update={"id": message_id, "occurred_at": occurred_at})
        await self.append(sent.subject, sent.model_dump_json(exclude_none=True).encode(), message_id=message_id)
