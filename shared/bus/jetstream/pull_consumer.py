"""Fetches messages from a durable JetStream pull consumer, for `consume` and for job workers."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig

from shared.bus.client import Bus
from shared.bus.jetstream.retries import retry_temporary
from shared.errors import Problem

logger = logging.getLogger(__name__)

MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Of the messages of one pull request. Above the largest message (8 MB), or that message could never be delivered."""
_EXPIRES_SECONDS = 30.0
"""How long a pull request for the next message stays with the server before it is made again."""
_HEARTBEAT_SECONDS = 1.0
"""How often the server says that it still has the pull request. Its leader may change, or a message be lost."""
_SILENCE_SECONDS = 2.5
"""A pull request that was silent for so long is lost and made again: more than two heartbeats."""
_OPEN_SECONDS = 5.0
"""How long creating the consumer may take."""
_WAIT_SECONDS = 0.5
"""How long to wait before a stream is tried again that is not there yet."""
_RECREATE_DELAY_SECONDS = 1.0
"""How long to wait after a failed fetch before the consumer is created again."""


class PullConsumer:
    """A durable pull consumer. A message that was delivered and not returned by `fetch` yet stays in its queue."""

    def __init__(self, bus: Bus, stream: str, config: ConsumerConfig) -> None:
        self.stream = stream
        self._bus = bus
        self._config = config
        self._inbox = ""
        self._request_number = 0
        self.stopped = False
        self._subscription: Subscription | None = None
        self._received: asyncio.Queue[Msg | None] = asyncio.Queue()
        """Messages and statuses of the server; None ends the fetch under way."""

    async def open_when_available(self) -> None:
        """As `open`, as soon as the stream exists and has a leader, or until fetching is stopped."""
        warned = False
        while not self.stopped:
            try:
                await self.open()
            except (NatsError, Problem) as error:
                level, warned = logging.DEBUG if warned else logging.WARNING, True
                logger.log(level, "waiting for the stream %s: %r", self.stream, error)
                await asyncio.sleep(_WAIT_SECONDS)
            else:
                return

    async def open(self) -> None:
        """Create the consumer if it does not exist, and subscribe to its deliveries. Raises NatsError, Unavailable."""
        client = await self._bus.connected_client()
        await retry_temporary(
            lambda seconds: client.jetstream(timeout=seconds).add_consumer(self.stream, self._config), _OPEN_SECONDS
        )
        if not self._inbox:
            self._inbox = client.new_inbox()
            self._subscription = await client.subscribe(f"{self._inbox}.*", cb=self._on_message)
            self._bus.on_reconnect(lambda: self._received.put_nowait(None))

    async def fetch(self, max_messages: int) -> list[Msg]:
        """Return up to `max_messages` that the stream has now; if it has none, the next one as soon as there is one.

        The list is empty if no message came within 30 s, if the request was lost, or if fetching was stopped. Raises
        NatsError, Unavailable.
        """
        available = {"no_wait": True, "batch": max_messages}
        messages = await self._pull(available, max_messages)
        if messages or self.stopped:
            return messages
        next_one = {
            "batch": 1,
            "expires": int(_EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_SECONDS * 1e9),
        }
        return await self._pull(next_one, 1)

    async def fetch_or_recreate(self, max_messages: int) -> list[Msg]:
        """As `fetch`; when that fails, create the consumer again after a second and return an empty list."""
        try:
            return await self.fetch(max_messages)
        except (NatsError, Problem) as error:
            logger.warning("cannot read %s at the moment: %r", self.stream, error)
            await asyncio.sleep(_RECREATE_DELAY_SECONDS)
            with contextlib.suppress(NatsError, Problem):
                await self.open()
            return []

    def stop(self) -> None:
        """End the fetch under way; no further one is made."""
        self.stopped = True
        self._received.put_nowait(None)

    async def drain(self) -> list[Msg]:
        """Unsubscribe; return the messages that were delivered and not fetched, for the caller to nak."""
        if self._subscription is None or not self._bus.is_connected:
            return []
        with contextlib.suppress(NatsError):
            await self._subscription.drain()  # type: ignore[no-untyped-call]
        return self._take_waiting()

    async def report_progress(self) -> None:
        """Tell the server that the messages that were delivered and not fetched yet are in progress."""
        waiting = self._take_waiting()
        for message in waiting:
            self._received.put_nowait(message)
        with contextlib.suppress(NatsError):
            for message in waiting:
                await message.in_progress()

    def _take_waiting(self) -> list[Msg]:
        """Empty the queue; return the messages of the stream it had."""
        received = [self._received.get_nowait() for _ in range(self._received.qsize())]
        return [message for message in received if message is not None and message.reply]

    async def _pull(self, request: Mapping[str, object], max_messages: int) -> list[Msg]:
        """Send one pull request; return what came until the server has ended it, or is silent for `_SILENCE_SECONDS`.

        Messages that an earlier request had delivered too late are returned first, without a request: with one, more
        would be delivered than the caller has asked for. What ended an earlier request does not end this one.
        """
        client = await self._bus.connected_client()
        if self.stopped:
            return []
        waiting = self._take_waiting()
        for surplus in waiting[max_messages:]:
            self._received.put_nowait(surplus)
        if waiting:
            return waiting[:max_messages]
        self._request_number += 1
        reply = f"{self._inbox}.{self._request_number}"
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self._config.durable_name}"
        await client.publish(subject, json.dumps({**request, "max_bytes": MAX_BATCH_BYTES}).encode(), reply=reply)
        messages: list[Msg] = []
        while len(messages) < max_messages:
            try:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    message = await self._received.get()
            except TimeoutError:
                break
            if message is None:  # stopped, or reconnected to a server that has forgotten the pull request
                break
            if message.reply:  # a message of the stream; its reply subject is where it is acknowledged
                messages.append(message)
            elif message.subject == reply and not _is_heartbeat(message):
                _raise_for_status(message)
                break
        return messages

    async def _on_message(self, message: Msg) -> None:
        self._received.put_nowait(message)


def _is_heartbeat(status: Msg) -> bool:
    return (status.headers or {}).get("Status") == "100"


def _raise_for_status(status: Msg) -> None:
    """Raise NatsError unless the status only ends a pull request: no message, or no more, at the moment."""
    headers = status.headers or {}
    if headers.get("Status") == "503" or "deleted" in headers.get("Description", "").lower():
        raise NatsError(headers.get("Description") or "the consumer is away")
