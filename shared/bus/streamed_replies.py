"""The calling side of streamed commands: sends them, and holds what arrives for each until its caller takes it.

What is held is bounded: handlers of this version send no more than the window beyond what was consumed (`wire.py`); of
others, which know no window, a call that is not read is broken off.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from opentelemetry.trace import SpanKind
from pydantic import BaseModel

from shared import telemetry
from shared.bus.admission import RequestBudget
from shared.bus.connection import Connection
from shared.bus.wire import (
    CANCEL,
    CONSUMED_HEADER,
    KIND_END,
    KIND_FAILURE,
    KIND_HEADER,
    KIND_HEARTBEAT,
    KIND_REPLY,
    TOO_LARGE_MESSAGE,
    WAITING_HEADER,
    WINDOW_BYTES,
    WINDOW_HEADER,
    check_size,
    part_cost,
    problem_from_reply,
)
from shared.contracts.message import Command
from shared.errors import TooLarge, Unavailable

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=BaseModel)

MAX_UNREAD_BYTES = 16 * 1024 * 1024
"""Of one call; only a handler without flow control sends so much that is not read. More than one reply of 8 MB."""


class StreamedCall:
    """One streamed request under way: what has arrived for it and was not taken yet."""

    def __init__(self, client: Client, owner: str, reply_to: str) -> None:
        self.owner = owner
        self.reply_to = reply_to
        self._client = client
        self._messages: asyncio.Queue[Msg] = asyncio.Queue()
        self._unread_bytes = 0
        self._parts = 0
        """How many have arrived."""
        self._has_flow_control = False
        """Whether the handler numbers its parts, and so waits until they are consumed."""
        self._consumed = 0
        self._told = 0
        """What the handler knows to be consumed."""
        self._broken: str | None = None

    async def arrived(self, message: Msg, number: str) -> None:
        """Take a message from the subscription; `number` of the parts sent with it, `""` without flow control."""
        kind = (message.headers or {}).get(KIND_HEADER)
        if self._broken is not None:
            return
        is_part = kind is None or kind == KIND_REPLY
        if number:
            self._has_flow_control = True
            self._parts += is_part
            if int(number) != self._parts and kind != KIND_FAILURE:
                await self._break_off("A part of the answer was lost on its way; try again.")
                return
        if kind == KIND_HEARTBEAT:
            if message.headers and WAITING_HEADER in message.headers:
                await self._tell_consumed()
            if not self._messages.empty():  # there is no need of a sign of life; who does not read would pile them up
                return
        self._unread_bytes += part_cost(message.data)
        self._messages.put_nowait(message)
        if self._unread_bytes > MAX_UNREAD_BYTES:
            await self._break_off("The answer was not read as fast as it came, and was broken off.")

    async def _break_off(self, reason: str) -> None:
        """End a call that cannot be completed: its handler is cancelled now, its caller told when it reads on."""
        logger.warning("%s: a stream is broken off: %s", self.owner, reason)
        self._broken = reason
        while not self._messages.empty():
            self._messages.get_nowait()
        self._messages.put_nowait(Msg(self._client))  # wakes who waits
        await self.cancel()

    async def next(self, silence_seconds: float) -> Msg:
        """Return the next message. Raises Unavailable after `silence_seconds` without any, or if the call is broken."""
        try:
            async with asyncio.timeout(silence_seconds):
                message = await self._messages.get()
        except TimeoutError:
            raise Unavailable(f"The {self.owner} service stopped answering.") from None
        if self._broken is not None:
            raise Unavailable(self._broken)
        self._unread_bytes -= part_cost(message.data)
        return message

    async def consumed(self, message: Msg) -> None:
        """Count a part as consumed, and tell the handler when that is half a window more than it knows."""
        self._consumed += part_cost(message.data)
        if self._has_flow_control and self._consumed - self._told >= WINDOW_BYTES // 2:
            await self._tell_consumed()

    async def _tell_consumed(self) -> None:
        self._told = self._consumed
        await self._tell({CONSUMED_HEADER: str(self._consumed)})

    async def cancel(self) -> None:
        """Tell the handler that its caller has left."""
        await self._tell(None)

    async def _tell(self, headers: dict[str, str] | None) -> None:
        with contextlib.suppress(Exception):  # the handler asks again for what is lost, and ends without an answer
            await self._client.publish(f"{self.owner}.{CANCEL}", self.reply_to.encode(), headers=headers)


class StreamedReplies:
    """The streamed requests of a process, and the one subscription that their replies come by."""

    def __init__(self, connection: Connection, silence_seconds: float) -> None:
        self._connection = connection
        self._silence_seconds = silence_seconds
        self._budget = RequestBudget()
        self.calls: dict[str, StreamedCall] = {}
        """Those under way, by the token of their reply subject that follows the inbox."""
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._lock = asyncio.Lock()

    async def request(self, command: Command[R], chunk: type[BaseModel] | None) -> AsyncGenerator[BaseModel, None]:
        """See `Bus.stream_request`."""
        payload = command.model_dump_json().encode()
        with self._budget.hold(command.organisation, len(payload)):
            client = await self._connection.connected_client()
            token, call = await self._open(client, command)
            finished = False
            try:
                await _send(client, command, payload, call)
                del payload
                while True:
                    message = await call.next(self._silence_seconds)
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
                    await call.consumed(message)
            finally:
                self.calls.pop(token, None)
                if not finished:
                    await call.cancel()

    async def _open(self, client: Client, command: Command[Any]) -> tuple[str, StreamedCall]:
        """Return a new token under this process's inbox, and the call of what is sent to it."""
        async with self._lock:
            if self._subscription is None:
                self._inbox = client.new_inbox()
                self._subscription = await client.subscribe(f"{self._inbox}.>", cb=self._on_reply)
                # nats-py's own bounds (128 MiB waiting) are for slow callbacks; this one only sorts.
        token = client.new_inbox().rpartition(".")[2]
        owner = command.subject.partition(".")[0]
        call = self.calls[token] = StreamedCall(client, owner, f"{self._inbox}.{token}")
        return token, call

    async def _on_reply(self, message: Msg) -> None:
        token, _, number = message.subject[len(self._inbox) + 1 :].partition(".")
        call = self.calls.get(token)
        if call is not None:
            await call.arrived(message, number)


async def _send(client: Client, command: Command[Any], payload: bytes, call: StreamedCall) -> None:
    with telemetry.tracer.start_as_current_span(f"stream_request {command.subject}", kind=SpanKind.CLIENT):
        headers = {WINDOW_HEADER: str(WINDOW_BYTES), **telemetry.trace_headers()}
    try:
        check_size(client, payload, headers)
        await client.publish(command.subject, payload, reply=call.reply_to, headers=headers)
    except MaxPayloadError:
        raise TooLarge(TOO_LARGE_MESSAGE) from None
    except NatsError as error:
        raise Unavailable("The message bus went away; try again.") from error
