"""The asking side: `ask` a service, `call` one that takes long or streams, `append` to a stream, `announce` a fact."""

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
from shared.bus.wire import BEAT, BEAT_SECONDS, CANCEL, DONE, END, KIND, problem_in
from shared.contracts.message import Command, Event, Request
from shared.errors import TooLarge, Unavailable
from shared.settings import ServiceSettings

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=BaseModel)
E = TypeVar("E", bound=Event)

REQUEST_TIMEOUT_SECONDS = 5.0
SILENCE_SECONDS = 3 * BEAT_SECONDS
"""A call whose service has not even sent a heartbeat for this long is given up."""
_TOO_LARGE = "This is more than fits into one message of the bus; send less at once."
_LOST = (NatsTimeoutError, ConnectionClosedError, ConnectionDrainingError, OutboundBufferLimitError)


class Bus(Connection):
    """A process's place on the bus."""

    def __init__(self, settings: ServiceSettings, service: str) -> None:
        super().__init__(settings, service)
        self._calls: dict[str, asyncio.Queue[Msg]] = {}
        self._inbox: str | None = None
        self._subscription: Subscription | None = None
        self._opening = asyncio.Lock()

    async def request(self, request: Request[R], *, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS) -> R:
        """The answer to a query or a short command; raises what the other service raised.

        Unavailable when nobody answers: at once if the service is down, else after `timeout_seconds`.
        """
        owner = request.subject.partition(".")[0]
        with telemetry.tracer.start_as_current_span(f"request {request.subject}", kind=SpanKind.CLIENT):
            client = await self.online()
            try:
                message = await client.request(
                    request.subject,
                    request.model_dump_json().encode(),
                    timeout=timeout_seconds,
                    headers=telemetry.outgoing(),
                )
            except NoRespondersError:
                raise Unavailable(f"The {owner} service is away.") from None
            except MaxPayloadError:
                raise TooLarge(_TOO_LARGE) from None
            except _LOST as error:
                raise Unavailable(f"The {owner} service did not answer in time.") from error
        if problem := problem_in(message):
            raise problem
        return request.reply_type().model_validate_json(message.data)

    async def stream_request(
        self, command: Command[R], chunk: type[BaseModel] | None = None
    ) -> AsyncGenerator[BaseModel, None]:
        """Answers of a long command as they come: any number of `chunk`, then the command's reply.

        The reply is true only when the iterator has ended: a failure may still follow it.

        The other side sends heartbeats, so it may take hours, yet its death is noticed within seconds. Leaving the
        iterator early tells the other side to stop; use `contextlib.aclosing`, or it is left only when collected.
        """
        owner = command.subject.partition(".")[0]
        client = await self.online()
        token, answers = await self._expect(client)
        reply_to = f"{self._inbox}.{token}"
        finished = False
        try:
            with telemetry.tracer.start_as_current_span(f"stream_request {command.subject}", kind=SpanKind.CLIENT):
                headers = telemetry.outgoing()
            await self._send(client, command, reply_to, headers)
            while True:
                message = await self._next(answers, owner)
                kind = (message.headers or {}).get(KIND)
                if kind == BEAT:
                    continue
                if problem := problem_in(message):
                    finished = True
                    raise problem
                if kind == END:
                    finished = True
                    return
                if kind == DONE:
                    yield command.reply_type().model_validate_json(message.data)
                elif chunk is not None:
                    yield chunk.model_validate_json(message.data)
        finally:
            self._calls.pop(token, None)
            if not finished:
                with contextlib.suppress(Exception):
                    await client.publish(f"{owner}.{CANCEL}", reply_to.encode())

    async def _send(self, client: Client, command: Command[R], reply_to: str, headers: dict[str, str]) -> None:
        try:
            await client.publish(command.subject, command.model_dump_json().encode(), reply=reply_to, headers=headers)
        except MaxPayloadError:
            raise TooLarge(_TOO_LARGE) from None
        except _LOST as error:
            raise Unavailable("The message bus went away; try again.") from error

    async def _next(self, answers: "asyncio.Queue[Msg]", owner: str) -> Msg:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return await answers.get()
        except TimeoutError:
            raise Unavailable(f"The {owner} service stopped answering.") from None

    async def _expect(self, client: Client) -> tuple[str, "asyncio.Queue[Msg]"]:
        """A token under this process's inbox, and the queue of what arrives for it."""
        async with self._opening:
            if self._subscription is None:
                self._inbox = client.new_inbox()
                self._subscription = await client.subscribe(f"{self._inbox}.*", cb=self._arrived)
                # nats-py's own bounds (128 MiB waiting) are for slow callbacks; this one only sorts.
        token = client.new_inbox().rpartition(".")[2]
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._calls[token] = queue
        return token, queue

    async def _arrived(self, message: Msg) -> None:
        queue = self._calls.get(message.subject.rpartition(".")[2])
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
        """Append to the stream that listens on `subject`; returns the sequence once it is durable there.

        Repeating with the same `message_id` within two minutes stores nothing new. Unavailable when it is not known
        to be stored.
        """
        client = await self.online()
        try:
            message = await client.request(
                subject, payload, timeout=timeout_seconds, headers={**(headers or {}), "Nats-Msg-Id": message_id}
            )
        except NoRespondersError:
            raise Unavailable(f"No stream takes {subject!r} at the moment.") from None
        except MaxPayloadError:
            raise TooLarge(_TOO_LARGE) from None
        except _LOST as error:
            raise Unavailable("The message bus did not confirm in time.") from error
        acknowledgement = from_json(message.data)
        if "error" in acknowledgement:
            raise Unavailable(f"The stream refused: {acknowledgement['error'].get('description', 'no reason given')}.")
        return int(acknowledgement["seq"])

    async def subscribe(self, event: type[E], heard: Callable[[E | None], None]) -> None:
        """Have `heard` called with every such event from now on, in every process that asks: to forget what it says is
        void. Events are not repeated here; None stands for what nobody can name: an event that cannot be read (a newer
        sender's, perhaps), or all that may have been missed while NATS was away.
        """
        warned = False

        async def arrived(message: Msg) -> None:
            nonlocal warned
            said: E | None = None
            try:
                said = event.model_validate_json(message.data)
            except ValidationError as error:
                if not warned:
                    warned = True
                    wrong = [(item["loc"], item["type"]) for item in error.errors()]
                    logger.warning("%s cannot be read, all it may be about is forgotten: %s", message.subject, wrong)
            heard(said)

        await (await self.online()).subscribe(event.everywhere(), cb=arrived)
        self.on_reconnect(lambda: heard(None))

    async def publish_event(self, event: Event, *, message_id: str) -> None:
        """Publish an event; return once it is durable. `message_id` comes from its cause, so repeats are dropped.

        It becomes the event's id, and now the time it occurred unless the event says another. Raises Unavailable.
        """
        occurred_at = event.occurred_at or datetime.now(UTC)
        sent = event.model_copy(update={"id": message_id, "occurred_at": occurred_at})
        await self.append(sent.subject, sent.model_dump_json(exclude_none=True).encode(), message_id=message_id)
