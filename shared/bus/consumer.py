"""Reading a stream in batches: in order, at least once, acknowledged only when the batch was handled.

A push consumer with a delivery group: an idle reader costs nothing, and replicas share the work.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from shared.bus.client import Bus
from shared.errors import Problem

logger = logging.getLogger(__name__)

ACK_WAIT_SECONDS = 30.0
_LONGEST_DELAY_SECONDS = 5.0


@dataclass(frozen=True)
class Batch:
    """Messages of a stream, in its order."""

    messages: list[Msg]

    @property
    def first(self) -> int:
        """Sequence of the first message in the stream."""
        return self.messages[0].metadata.sequence.stream


Handle = Callable[[Batch], Awaitable[None]]


async def consume(bus: Bus, stream: str, durable: str, handle: Handle, *, most: int = 256) -> "asyncio.Task[None]":
    """Start reading `stream`; `handle` gets up to `most` messages at once, again and again until it succeeds.

    `handle` must be safe to run twice, and must itself put away (to `DEAD`) what can never succeed.
    """
    queue: asyncio.Queue[Msg] = asyncio.Queue()
    jetstream = (await bus.online()).jetstream()

    async def arrived(message: Msg) -> None:
        queue.put_nowait(message)

    await jetstream.subscribe(
        "",
        stream=stream,
        durable=durable,
        queue=durable,
        cb=arrived,
        manual_ack=True,
        config=ConsumerConfig(
            durable_name=durable,
            deliver_group=durable,
            deliver_subject=f"_INBOX.{bus.service}.deliver.{stream}",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_ack_pending=2 * most,
        ),
    )
    return asyncio.create_task(_read(queue, handle, most), name=f"read {stream}")


async def _read(queue: "asyncio.Queue[Msg]", handle: Handle, most: int) -> None:
    while True:
        messages = [await queue.get()]
        while len(messages) < most and not queue.empty():
            messages.append(queue.get_nowait())
        messages.sort(key=lambda message: message.metadata.sequence.stream)
        await _insist(Batch(messages), handle)
        for message in messages:
            await message.ack()


async def _insist(batch: Batch, handle: Handle) -> None:
    """Handle the batch, however long what it needs is away; tell the server that we are still at it."""
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
            with contextlib.suppress(Exception):
                for message in batch.messages:
                    await message.in_progress()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
        else:
            return
