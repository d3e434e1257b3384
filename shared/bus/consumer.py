"""Reading a stream in batches: at least once, acknowledged only when the batch was handled.

A pull consumer: the next batch is asked for when the last one is done, so however long a database is away, no more
than one batch is held in memory, and nothing comes twice because it waited. Replicas share the work; one that dies
leaves its batch to the others after `ACK_WAIT_SECONDS`.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig

from shared.bus.client import Bus
from shared.errors import Problem

logger = logging.getLogger(__name__)

ACK_WAIT_SECONDS = 2.0
"""Short, because what a killed reader held is not read until then; a living one says every beat that it is at it."""
_BEAT_SECONDS = ACK_WAIT_SECONDS / 3
MOST_BYTES = 16 * 1024 * 1024
"""Of one batch. Above the largest message (8 MB), or that message could never be delivered."""
GATHER_SECONDS = 0.02
"""Measured on two cores with one caller after the other: storing 140 logs a second one by one took half a core more."""
_FEW = 16
_LINGER_SECONDS = 30.0
"""How long a request for the next message stays with the server before it is made again."""
_QUIET_SECONDS = 2.0
"""Beyond what a server promised, how long to wait before asking again: the request or its answer got lost."""
_PAUSE_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 5.0
FINISH_SECONDS = 5.0
"""How long a process that is told to stop works on the batch in hand; what it does not finish comes again."""


@dataclass(frozen=True)
class Batch:
    """Messages of a stream, in its order."""

    messages: list[Msg]

    @property
    def first(self) -> int:
        """Sequence of the first message in the stream."""
        return self.messages[0].metadata.sequence.stream


Handle = Callable[[Batch], Awaitable[None]]


async def consume(
    bus: Bus, stream: str, durable: str, handle: Handle, *, most: int = 256, wake: asyncio.Event | None = None
) -> "asyncio.Task[None]":
    """Start reading `stream`; `handle` gets up to `most` messages at once, again and again until it succeeds.

    With `wake`, a small batch is followed by a pause of `GATHER_SECONDS`, in which the next one grows: a batch costs
    about the same whatever it holds. Setting the event ends the pause.

    Messages come in the stream's order as long as one replica reads and none is redelivered. `handle` must be safe to
    run twice, and must itself put away (to `DEAD`) what can never succeed.
    """
    config = ConsumerConfig(durable_name=durable, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_SECONDS)
    reader = _Reader(bus, stream, config)
    await reader.open()
    task = bus.supervise(_read(reader, handle, most, wake), name=f"read {stream}")

    async def finish() -> None:
        reader.stop()
        if not (await asyncio.wait({task}, timeout=FINISH_SECONDS))[0]:
            task.cancel()
            await asyncio.wait({task})
        await _give_back(await reader.leave())

    bus.on_close(finish)
    return task


async def _read(reader: "_Reader", handle: Handle, most: int, wake: asyncio.Event | None) -> None:
    while not reader.stopped:
        if messages := await reader.next_when_possible(most):
            messages.sort(key=lambda message: message.metadata.sequence.stream)
            await _finish(Batch(messages), handle)
            if wake is not None and len(messages) < _FEW:
                await _gather(wake)


async def _gather(wake: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GATHER_SECONDS):
            await wake.wait()
    wake.clear()


async def _finish(batch: Batch, handle: Handle) -> None:
    """Handle the batch and acknowledge it, telling the server meanwhile that we are still at it."""
    work = asyncio.create_task(_retry(batch, handle))
    try:
        while not (await asyncio.wait({work}, timeout=_BEAT_SECONDS))[0]:
            with contextlib.suppress(NatsError):
                for message in batch.messages:
                    await message.in_progress()
        await work
    except asyncio.CancelledError:
        await _give_back(batch.messages)
        raise
    finally:
        work.cancel()
    with contextlib.suppress(NatsError):  # what is not acknowledged comes again
        for message in batch.messages:
            await message.ack()


async def _give_back(messages: Iterable[Msg]) -> None:
    """Let another replica have them now and not after `ACK_WAIT_SECONDS`."""
    with contextlib.suppress(NatsError):
        for message in messages:
            await message.nak()


async def _retry(batch: Batch, handle: Handle) -> None:
    """Handle the batch, however long what it needs is away."""
    delay = 0.1
    while True:
        try:
            await handle(batch)
        except Exception as error:
            expected = isinstance(error, Problem) and error.retryable
            logger.log(
                logging.WARNING if expected else logging.ERROR,
                "a batch waits: %s",
                error,
                extra={"first": batch.first, "messages": len(batch.messages)},
                exc_info=None if expected else error,
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
        else:
            return


class _Reader:
    """Asks the durable consumer for messages. What it was sent and has not given out yet is never lost."""

    def __init__(self, bus: Bus, stream: str, config: ConsumerConfig) -> None:
        self.stream = stream
        self._bus = bus
        self._config = config
        self._inbox = ""
        self._request = 0
        self.stopped = False
        self._subscription: Subscription | None = None
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()

    async def open(self) -> None:
        """Make the consumer if it is not there, and listen for what it sends."""
        client = await self._bus.online()
        await client.jetstream().add_consumer(self.stream, self._config)
        if not self._inbox:
            self._inbox = client.new_inbox()
            self._subscription = await client.subscribe(f"{self._inbox}.*", cb=self._deliver)
            self._bus.on_reconnect(lambda: self._arrived.put_nowait(None))

    async def next(self, most: int) -> list[Msg]:
        """What the stream has at this moment, up to `most`; if it has nothing, the next message when it comes."""
        messages = await self._ask({"no_wait": True, "batch": most}, most, _QUIET_SECONDS)
        if messages or self.stopped:
            return messages
        linger = {"batch": 1, "expires": int(_LINGER_SECONDS * 1e9)}
        return await self._ask(linger, 1, _LINGER_SECONDS + _QUIET_SECONDS)

    async def next_when_possible(self, most: int) -> list[Msg]:
        """As `next`; when that fails, the consumer is made anew after a second, and nothing is returned for now."""
        try:
            return await self.next(most)
        except (NatsError, Problem) as error:
            logger.warning("cannot read %s at the moment: %r", self.stream, error)
            await asyncio.sleep(_PAUSE_SECONDS)
            with contextlib.suppress(NatsError, Problem):
                await self.open()
            return []

    def stop(self) -> None:
        """Ask no more."""
        self.stopped = True
        self._arrived.put_nowait(None)

    async def leave(self) -> list[Msg]:
        """Unsubscribe; returns the messages that were on their way when reading stopped, to be given back."""
        if self._subscription is None or not self._bus.is_online:
            return []
        with contextlib.suppress(NatsError):
            await self._subscription.drain()  # type: ignore[no-untyped-call]
        waiting = [self._arrived.get_nowait() for _ in range(self._arrived.qsize())]
        return [message for message in waiting if message is not None and message.reply]

    async def _ask(self, wish: Mapping[str, object], most: int, timeout_seconds: float) -> list[Msg]:
        client = await self._bus.online()
        self._request += 1
        reply = f"{self._inbox}.{self._request}"
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self._config.durable_name}"
        await client.publish(subject, json.dumps({**wish, "max_bytes": MOST_BYTES}).encode(), reply=reply)
        messages: list[Msg] = []
        while len(messages) < most:
            try:
                async with asyncio.timeout(timeout_seconds):
                    message = await self._arrived.get()
            except TimeoutError:
                break
            if message is None:  # told to stop, or reconnected to a server that has forgotten what it was asked
                break
            if message.reply:  # a message of the stream; its reply subject is where it is acknowledged
                messages.append(message)
            elif message.subject == reply:
                _check(message)
                break
        return messages

    async def _deliver(self, message: Msg) -> None:
        self._arrived.put_nowait(message)


def _check(status: Msg) -> None:
    """Raise if the status says more than that there is nothing (more) at the moment."""
    headers = status.headers or {}
    if headers.get("Status") == "503" or "deleted" in headers.get("Description", "").lower():
        raise NatsError(headers.get("Description") or "the consumer is away")
