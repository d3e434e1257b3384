"""Appends a message to the JetStream stream that has its subject."""

from collections.abc import Mapping

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError
from nats.js.errors import APIError
from pydantic_core import from_json

from shared.bus.connection import Connection
from shared.bus.jetstream.retries import retry_temporary
from shared.bus.wire import TOO_LARGE_MESSAGE, check_size
from shared.errors import TooLarge, Unavailable


async def append(
    connection: Connection,
    subject: str,
    payload: bytes,
    *,
    message_id: str,
    timeout_seconds: float,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Append a message; return its stream sequence once it is durable.

    It is sent again while the stream cannot decide, as in the election of a leader, after a lost connection too: its
    `message_id` lets the stream store it once. Raises Unavailable if it may not be stored, TooLarge if it exceeds 8 MB.
    """
    client = await connection.connected_client()
    all_headers = {**(headers or {}), "Nats-Msg-Id": message_id}

    async def attempt(attempt_seconds: float) -> int:
        message = await connection.send_request(subject, payload, timeout_seconds=attempt_seconds, headers=all_headers)
        acknowledgement = from_json(message.data)
        if "error" in acknowledgement:
            APIError.from_error(acknowledgement["error"])
        return int(acknowledgement["seq"])

    try:
        check_size(client, payload, all_headers)
        return await retry_temporary(attempt, timeout_seconds)
    except MaxPayloadError:
        raise TooLarge(TOO_LARGE_MESSAGE) from None
    except NoRespondersError:
        raise Unavailable(f"No stream takes {subject!r} at the moment.") from None
    except APIError as error:
        raise Unavailable(f"The stream refused: {error.description or 'no reason given'}.") from None
    except NatsError as error:
        raise Unavailable("The message bus did not confirm in time.") from error
