"""Reads a stream in batches: at least once, acknowledged only when the batch was handled.

The next batch is fetched when the last one is done, so however long a database is away, no more than one batch is held
in memory, and nothing is redelivered because it waited. Replicas share the work; the batch of one that dies goes to the
others after `ACK_WAIT_SECONDS`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig

from shared.bus.client import Bus
from shared.bus.jetstream.pull_consumer import PullConsumer
from shared.contracts.message import Event
from shared.errors import Problem

logger = logging.getLogger(__name__)

EVENTS = "EVENTS"
"""The stream of all events; `logging` makes it."""
ACK_WAIT_SECONDS = 2.0
"""How long the server waits for an acknowledgement or a sign of progress before it redelivers. Short, because the batch
of a killed process is not read until then."""
_PROGRESS_SECONDS = ACK_WAIT_SECONDS / 3
"""How often the server is told that a batch is still being handled."""
LINGER_SECONDS = 0.02
"""Pause after a small batch. Measured on two cores with one caller after the other: storing 140 logs a second one by
one took half a core more."""
_SMALL_BATCH = 16
"""A batch of fewer messages is followed by the pause."""
_FIRST_RETRY_SECONDS = 0.1
_MAX_RETRY_SECONDS = 5.0
SHUTDOWN_SECONDS = 5.0
"""How long a process that is told to stop works on the batch in hand; what it does not finish is redelivered."""


@dataclass(frozen=True)
class Batch:
    """Messages of a stream, in its order; at least one."""

    messages: list[Msg]

    @property
    def first_sequence(self) -> int:
        """Stream sequence of the first message."""
        return self.messages[0].metadata.sequence.stream


BatchHandler = Callable[[Batch], Awaitable[None]]


async def consume(
    bus: Bus,
    stream: str,
    durable: str,
    handler: BatchHandler,
    *,
    max_messages: int = 256,
    wake: asyncio.Event | None = None,
) -> "asyncio.Task[None]":
    """Start reading `stream` as consumer `durable` in a supervised task, as soon as the stream is there; return the
    task.

    `handler` gets up to `max_messages` (16 MiB) at once, and the same batch again until it does not raise. It must be
    safe to run twice, and must itself append to `DEAD` what can never succeed. Messages come in the stream's order as
    long as one replica reads and none is redelivered.

    With `wake`, a small batch is followed by a pause of `LINGER_SECONDS` in which the next one grows: a batch costs
    about the same whatever it holds. Setting the event ends the pause.
    """
    config = ConsumerConfig(durable_name=durable, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_SECONDS)
    consumer = PullConsumer(bus, stream, config)
    await consumer.open_when_available()
    return _supervise(bus, consumer, _read(consumer, handler, max_messages, wake))


def consume_events(
    bus: Bus, event: type[Event], durable: str, handler: BatchHandler, *, max_messages: int = 256
) -> "asyncio.Task[None]":
    """Start reading one kind of event of all organisations from `EVENTS`, from the oldest it has, as `consume` does.

    Does not wait for the stream: a service that answers requests can start without JetStream.
    """
    config = ConsumerConfig(
        durable_name=durable,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        filter_subject=event.wildcard_subject(),
    )
    consumer = PullConsumer(bus, EVENTS, config)
    return _supervise(bus, consumer, _open_and_read(consumer, handler, max_messages))


def _supervise(bus: Bus, consumer: PullConsumer, reading: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    task = bus.supervise(reading, name=f"read {consumer.stream}")

    async def stop() -> None:
        consumer.stop()
        if not (await asyncio.wait({task}, timeout=SHUTDOWN_SECONDS))[0]:
            task.cancel()
            await asyncio.wait({task})
        await _nak(await consumer.drain())

    bus.on_close(stop)
    return task


async def _open_and_read(consumer: PullConsumer, handler: BatchHandler, max_messages: int) -> None:
    await consumer.open_when_available()
    await _read(consumer, handler, max_messages, None)


async def _read(consumer: PullConsumer, handler: BatchHandler, max_messages: int, wake: asyncio.Event | None) -> None:
    while not consumer.stopped:
        if messages := await consumer.fetch_or_recreate(max_messages):
            messages.sort(key=lambda message: message.metadata.sequence.stream)
            await _process(Batch(messages), handler)
            if wake is not None and len(messages) < _SMALL_BATCH:
                await _linger(wake)


async def _linger(wake: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            await wake.wait()
    wake.clear()


async def _process(batch: Batch, handler: BatchHandler) -> None:
    """Handle the batch and acknowledge it; meanwhile tell the server that it is in progress."""
    work = asyncio.create_task(_handle_until_success(batch, handler))
    try:
        while not (await asyncio.wait({work}, timeout=_PROGRESS_SECONDS))[0]:
            with contextlib.suppress(NatsError):
                for message in batch.messages:
                    await message.in_progress()
        await work
    except asyncio.CancelledError:
        await _nak(batch.messages)
        raise
    finally:
        work.cancel()
    with contextlib.suppress(NatsError):  # what is not acknowledged is redelivered
        for message in batch.messages:
            await message.ack()


async def _nak(messages: Iterable[Msg]) -> None:
    """Have the messages redelivered, to another replica perhaps, now and not after `ACK_WAIT_SECONDS`."""
    with contextlib.suppress(NatsError):
        for message in messages:
            await message.nak()


async def _handle_until_success(batch: Batch, handler: BatchHandler) -> None:
    """Run the handler again, after a growing delay, until it does not raise."""
    delay = _FIRST_RETRY_SECONDS
    while True:
        try:
            await handler(batch)
        except Exception as error:
            expected = isinstance(error, Problem) and error.retryable
            logger.log(
                logging.WARNING if expected else logging.ERROR,
                "a batch waits: %s",
                error,
                extra={"first": batch.first_sequence, "messages": len(batch.messages)},
                exc_info=None if expected else error,
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MAX_RETRY_SECONDS)
        else:
            return
