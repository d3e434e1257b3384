"""The sending side of the bus: requests to services, records for streams, events and jobs."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    MaxPayloadError,
    NoRespondersError,
    OutboundBufferLimitError,
)
from nats.errors import TimeoutError as NatsTimeoutError
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from shared import telemetry
from shared.bus.connection import Connection
from shared.bus.wire import (
    CANCEL,
    KIND_END,
    KIND_HEADER,
    KIND_HEARTBEAT,
    KIND_REPLY,
    TIMEOUT_HEADER,
    check_size,
    problem_from_reply,
)
from shared.contracts.dead_letters import ORGANISATION_HEADER
from shared.contracts.message import Command, Event, Job, Request
from shared.errors import TooLarge, Unavailable
from shared.settings import ServiceSettings

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=BaseModel)
E = TypeVar("E", bound=Event)

REQUEST_TIMEOUT_SECONDS = 5.0
"""How long the caller of a query or a short command waits, unless it says otherwise."""
MAX_JOB_BYTES = 1024 * 1024
_TOO_LARGE_MESSAGE = "This is more than fits into one message of the bus; send less at once."
_CONNECTION_ERRORS = (NatsTimeoutError, ConnectionClosedError, ConnectionDrainingError, OutboundBufferLimitError)
"""What nats-py raises when it is not known whether a message has arrived."""


class Bus(Connection):
    """Sends messages over a process's connection."""

    def __init__(self, settings: ServiceSettings, service: str) -> None:
        super().__init__(settings, service)
        self.heartbeat_seconds = settings.bus_heartbeat_seconds
        self._silence_seconds = settings.bus_silence_seconds
        self._reply_queues: dict[str, asyncio.Queue[Msg]] = {}
        """Of each streamed request under way, by the last token of its reply subject."""
        self._inbox: str | None = None
        self._inbox_subscription: Subscription | None = None
        self._inbox_lock = asyncio.Lock()

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
                message = await client.request(request.subject, payload, timeout=timeout_seconds, headers=headers)
            except NoRespondersError:
                raise Unavailable(f"The {owner} service is away.") from None
            except MaxPayloadError:
                raise TooLarge(_TOO_LARGE_MESSAGE) from None
            except _CONNECTION_ERRORS as error:
                raise Unavailable(f"The {owner} service did not answer in time.") from error
        if problem := problem_from_reply(message):
            raise problem
        return request.reply_type().model_validate_json(message.data)

    async def stream_request(
        self, command: Command[R], chunk: type[BaseModel] | None = None
    ) -> AsyncGenerator[BaseModel, None]:
        """Send a command that streams or takes long; yield any number of `chunk`, then the command's reply.

        The reply may be relied on only when the iterator has ended: a failure may still follow it. Raises as `request`
        does; instead of a timeout for the whole there is one for the time without even a heartbeat
        (`bus_silence_seconds`). Leaving the iterator early cancels the handler; use `contextlib.aclosing`, or that
        happens only when the generator is collected.
        """
        owner = command.subject.partition(".")[0]
        client = await self.connected_client()
        token, replies = await self._open_reply_queue(client)
        reply_to = f"{self._inbox}.{token}"
        finished = False
        try:
            with telemetry.tracer.start_as_current_span(f"stream_request {command.subject}", kind=SpanKind.CLIENT):
                headers = telemetry.trace_headers()
            await self._publish_command(client, command, reply_to, headers)
            while True:
                message = await self._next_reply(replies, owner)
                kind = (message.headers or {}).get(KIND_HEADER)
                if kind == KIND_HEARTBEAT:
                    continue
                if problem := problem_from_reply(message):
                    finished = True
                    raise problem
                if kind == KIND_END:
                    finished = True
                    return
                if kind == KIND_REPLY:
                    yield command.reply_type().model_validate_json(message.data)
                elif chunk is not None:
                    yield chunk.model_validate_json(message.data)
        finally:
            self._reply_queues.pop(token, None)
            if not finished:
                with contextlib.suppress(Exception):
                    await client.publish(f"{owner}.{CANCEL}", reply_to.encode())

    async def _publish_command(
        self, client: Client, command: Command[R], reply_to: str, headers: dict[str, str]
    ) -> None:
        payload = command.model_dump_json().encode()
        try:
            check_size(client, payload, headers)
            await client.publish(command.subject, payload, reply=reply_to, headers=headers)
        except MaxPayloadError:
            raise TooLarge(_TOO_LARGE_MESSAGE) from None
        except _CONNECTION_ERRORS as error:
            raise Unavailable("The message bus went away; try again.") from error

    async def _next_reply(self, replies: "asyncio.Queue[Msg]", owner: str) -> Msg:
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await replies.get()
        except TimeoutError:
            raise Unavailable(f"The {owner} service stopped answering.") from None

    async def _open_reply_queue(self, client: Client) -> tuple[str, "asyncio.Queue[Msg]"]:
        """Return a new token under this process's inbox, and the queue of what is sent to it."""
        async with self._inbox_lock:
            if self._inbox_subscription is None:
                self._inbox = client.new_inbox()
                self._inbox_subscription = await client.subscribe(f"{self._inbox}.*", cb=self._on_reply)
                # nats-py's own bounds (128 MiB waiting) are for slow callbacks; this one only sorts.
        token = client.new_inbox().rpartition(".")[2]
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._reply_queues[token] = queue
        return token, queue

    async def _on_reply(self, message: Msg) -> None:
        queue = self._reply_queues.get(message.subject.rpartition(".")[2])
        if queue is not None:
            queue.put_nowait(message)

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

        A repeat with the same `message_id` within the stream's duplicate window stores nothing new. Raises Unavailable
        if the message may not be stored, TooLarge if it exceeds 8 MB.
        """
        client = await self.connected_client()
        all_headers = {**(headers or {}), "Nats-Msg-Id": message_id}
        try:
            check_size(client, payload, all_headers)
            message = await client.request(subject, payload, timeout=timeout_seconds, headers=all_headers)
        except NoRespondersError:
            raise Unavailable(f"No stream takes {subject!r} at the moment.") from None
        except MaxPayloadError:
            raise TooLarge(_TOO_LARGE_MESSAGE) from None
        except _CONNECTION_ERRORS as error:
            raise Unavailable("The message bus did not confirm in time.") from error
        acknowledgement = from_json(message.data)
        if "error" in acknowledgement:
            raise Unavailable(f"The stream refused: {acknowledgement['error'].get('description', 'no reason given')}.")
        return int(acknowledgement["seq"])

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
