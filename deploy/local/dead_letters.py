"""Reads the stream `DEAD` as NATS user `operator`, and publishes its messages again."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from deploy.local import operator_bus
from deploy.local.errors import CommandError
from deploy.local.operator_bus import Server
from shared import ids
from shared.contracts.dead_letters import ORGANISATION_HEADER, STREAM, DeadLetter

_REQUEST_TIMEOUT_SECONDS = 10
_BATCH_HEADERS = 500
"""Messages a fetch when only their headers are read."""
_BATCH_PAYLOADS = 8
"""Messages a fetch with their payloads, each of which may take 7 MB."""
_CONSUMER_TIMEOUT_SECONDS = 60
"""The server deletes our consumer when it is unused for so long."""


class StoredLetter(NamedTuple):
    """A dead letter and its sequence in the stream."""

    sequence: int
    letter: DeadLetter


@contextlib.asynccontextmanager
async def connect(server: Server) -> AsyncIterator[JetStreamContext]:
    """Connect and yield a JetStream context.

    Raises CommandError if the server is away, refuses the login, has no stream `DEAD`, or goes away meanwhile.
    """
    async with operator_bus.connect(server) as client:
        try:
            yield client.jetstream(timeout=_REQUEST_TIMEOUT_SECONDS)
        except NotFoundError:
            raise CommandError(
                f"There is no stream {STREAM} on {server.url} yet; the logging service makes it."
            ) from None


async def iterate(
    js: JetStreamContext, *, first: int = 1, with_payload: bool = False
) -> AsyncGenerator[StoredLetter, None]:
    """Yield the letters the stream holds now, from sequence `first` on, oldest first; without payloads unless asked."""
    consumer = await js.add_consumer(
        STREAM,
        ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            headers_only=not with_payload,
            mem_storage=True,
            inactive_threshold=_CONSUMER_TIMEOUT_SECONDS,
        ),
    )
    try:
        left = consumer.num_pending or 0
        subscription = await js.pull_subscribe_bind(consumer=consumer.name, stream=STREAM)
        while left > 0:
            batch = min(left, _BATCH_PAYLOADS if with_payload else _BATCH_HEADERS)
            for message in await subscription.fetch(batch, timeout=_REQUEST_TIMEOUT_SECONDS):
                left -= 1
                metadata = message.metadata
                letter = DeadLetter.from_message(message.headers or {}, message.data, metadata.timestamp)
                yield StoredLetter(metadata.sequence.stream, letter)
    finally:
        with contextlib.suppress(NatsError):
            await js.delete_consumer(STREAM, consumer.name)


async def get(js: JetStreamContext, sequence: int) -> StoredLetter:
    """Return one letter with its payload. Raises CommandError if there is none."""
    async with contextlib.aclosing(iterate(js, first=sequence, with_payload=True)) as letters:
        async for stored in letters:
            if stored.sequence == sequence:
                return stored
            break
    raise CommandError(f"There is no dead letter {sequence}. `everloop dead list` shows those there are.")


async def replay(js: JetStreamContext, stored: StoredLetter) -> None:
    """Publish the message again on its subject, and delete its letter when the stream has acknowledged it.

    The message id is derived from the letter: when a replay was interrupted in between and is repeated, the stream
    drops the duplicate within its window (15 minutes for jobs, 2 for logs). Raises CommandError if the message cannot
    be published; the letter stays then.
    """
    from shared.bus.jetstream.retries import retry_temporary  # noqa: PLC0415 - it loads the whole bus, which no other command needs

    sequence, letter = stored
    if letter.size is not None:
        raise CommandError(
            f"Letter {sequence} was too large to be kept whole ({letter.size} bytes); it cannot be sent again."
        )
    headers = {**letter.trace, "Nats-Msg-Id": ids.derive("replay", str(sequence), letter.last_at.isoformat())}
    if letter.organisation is not None:
        headers[ORGANISATION_HEADER] = letter.organisation
    try:
        await retry_temporary(
            lambda seconds: js.publish(letter.subject, letter.payload, headers=headers, timeout=seconds),
            _REQUEST_TIMEOUT_SECONDS,
        )
    except NoStreamResponseError:
        raise CommandError(
            f"No stream takes {letter.subject} at the moment. Start the service that makes it."
        ) from None
    except APIError as error:
        raise CommandError(f"The stream of {letter.subject} refused letter {sequence}: {error.description}.") from None
    await js.delete_msg(STREAM, sequence)
