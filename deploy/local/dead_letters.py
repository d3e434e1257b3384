"""The stream `DEAD` as an operator sees it: read its letters, and send one again."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from deploy.local.errors import Refused
from shared import ids
from shared.contracts.dead_letters import ORGANISATION_HEADER, STREAM, DeadLetter

_CONNECT_SECONDS = 3
_ANSWER_SECONDS = 10
_HEADERS_AT_ONCE = 500
_WHOLE_AT_ONCE = 8
"""A letter may take 7 MB."""
_FORGOTTEN_AFTER_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A NATS server and who we are there."""

    url: str
    user: str | None = None
    password: str | None = None


class Stored(NamedTuple):
    """A letter and its place in the stream."""

    sequence: int
    letter: DeadLetter


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[JetStreamContext]:
    """Connect. Refused if nobody answers there, or not to this user, or if the server ends the conversation."""

    async def quiet(_: Exception) -> None:
        """What goes wrong is raised as well."""

    client = Client()
    try:
        await client.connect(
            [url.strip() for url in server.url.split(",")],
            user=server.user if server.password else None,
            password=server.password,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # to each address; else it is tried for two minutes
            reconnect_time_wait=0,
            connect_timeout=_CONNECT_SECONDS,
            error_cb=quiet,
        )
        yield client.jetstream(timeout=_ANSWER_SECONDS)
    except NotFoundError:
        raise Refused(f"There is no stream {STREAM} on {server.url} yet; the logging service makes it.") from None
    except (OSError, NatsError) as error:
        raise Refused(f"NATS at {server.url} (user {server.user}): {str(error) or type(error).__name__}") from None
    finally:
        await client.close()


async def letters(js: JetStreamContext, *, first: int = 1, whole: bool = False) -> AsyncGenerator[Stored, None]:
    """Those that are there now, from sequence `first` on, oldest first; their payloads only if `whole`."""
    consumer = await js.add_consumer(
        STREAM,
        ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            headers_only=not whole,
            mem_storage=True,
            inactive_threshold=_FORGOTTEN_AFTER_SECONDS,
        ),
    )
    try:
        left = consumer.num_pending or 0
        subscription = await js.pull_subscribe_bind(consumer=consumer.name, stream=STREAM)
        while left > 0:
            most = min(left, _WHOLE_AT_ONCE if whole else _HEADERS_AT_ONCE)
            for message in await subscription.fetch(most, timeout=_ANSWER_SECONDS):
                left -= 1
                metadata = message.metadata
                letter = DeadLetter.from_message(message.headers or {}, message.data, metadata.timestamp)
                yield Stored(metadata.sequence.stream, letter)
    finally:
        with contextlib.suppress(NatsError):
            await js.delete_consumer(STREAM, consumer.name)


async def letter_at(js: JetStreamContext, sequence: int) -> Stored:
    """One letter, whole. Refused if there is none."""
    async with contextlib.aclosing(letters(js, first=sequence, whole=True)) as found:
        async for stored in found:
            if stored.sequence == sequence:
                return stored
            break
    raise Refused(f"There is no dead letter {sequence}. Those there are: everloop dead list")


async def replay(js: JetStreamContext, stored: Stored) -> None:
    """Send the message again where it was sent, and remove its letter once that is durable.

    Its message id is derived from the letter: a replay that was cut off in between and is repeated sends it once, if
    that is within the stream's window (15 minutes for jobs, 2 for logs). Refused if it cannot be sent; then the letter
    stays.
    """
    sequence, letter = stored
    if letter.size is not None:
        raise Refused(
            f"Letter {sequence} was too large to be kept whole ({letter.size} bytes); it cannot be sent again."
        )
    headers = {**letter.trace, "Nats-Msg-Id": ids.derive("replay", str(sequence), letter.last_at.isoformat())}
    if letter.organisation is not None:
        headers[ORGANISATION_HEADER] = letter.organisation
    try:
        await js.publish(letter.subject, letter.payload, headers=headers, timeout=_ANSWER_SECONDS)
    except NoStreamResponseError:
        raise Refused(f"No stream takes {letter.subject} at the moment. Start the service that makes it.") from None
    except APIError as error:
        raise Refused(f"The stream of {letter.subject} refused letter {sequence}: {error.description}.") from None
    await js.delete_msg(STREAM, sequence)
