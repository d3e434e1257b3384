"""JetStream streams: how they are created, read at one subject, purged, and how far a consumer is in them.

Each stream is created by the service that owns it (docs/architecture/bus.md).
"""

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServiceUnavailableError
from pydantic_core import from_json

from shared.bus.client import Bus
from shared.bus.jetstream.retries import is_temporary, retry_temporary
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

DUPLICATE_WINDOW_SECONDS = 120.0
"""How long a stream remembers message ids, unless its `StreamSpec` says otherwise."""
_DAY_SECONDS = 86_400.0
_API_TIMEOUT_SECONDS = 2.0
"""How long an operation of the JetStream API may take."""
_PROBE_SECONDS = 1.5
"""How long a stream has to say that it is available: who asks for a service's health waits 3 s."""
_READ_TIMEOUT_SECONDS = 5.0
"""How long reading a message may take."""
_WAIT_SECONDS = 0.5
"""How long to wait before a stream is tried again whose servers are not there yet."""
_NOT_FOUND = "404"
_LEASE_SECONDS = 3.0
"""A leader that heard of a majority within this time has no successor yet: a follower waits 4 s at least for a sign of
the leader (https://github.com/nats-io/nats-server/blob/main/server/raft.go, 2.15, `minElectionTimeoutDefault`)."""
_NAME_IN_USE = 10058
"""`err_code`: a stream of this name has another configuration; another process made it meanwhile."""


@dataclass(frozen=True)
class StreamSpec:
    """Configuration of a stream. `replicas` is 1 on one node and 3 in a cluster."""

    name: str
    subjects: tuple[str, ...]
    retention: RetentionPolicy = RetentionPolicy.LIMITS
    max_age_days: float = 0
    """0: messages are kept for ever."""
    max_bytes: int = -1
    """-1: no limit but the disk's. A stream that is full refuses new messages and drops none."""
    replicas: int = 1
    last_per_subject_only: bool = False
    """Only the last message of each subject is kept; `get_last_message` reads it."""
    duplicate_window_seconds: float = DUPLICATE_WINDOW_SECONDS
    """A message whose id was appended within this time is dropped. The server keeps these ids in memory."""
    allow_message_ttl: bool = False
    """A message may say in the header `Nats-TTL` how long it is kept. Needs nats-server 2.11."""


async def ensure_stream(bus: Bus, spec: StreamSpec) -> None:
    """Create the stream, or update its configuration to `spec`.

    Waits as long as JetStream cannot: while its cluster has no leader, or too few servers have joined it.
    """
    warned = False
    while True:
        try:
            await retry_temporary(lambda _: _create_or_update(bus, spec), _API_TIMEOUT_SECONDS)
        except (NatsError, Unavailable) as error:
            if isinstance(error, NatsError) and not is_temporary(error):
                raise
            level, warned = logging.DEBUG if warned else logging.WARNING, True
            logger.log(level, "JetStream is not available for the stream %s, trying again: %r", spec.name, error)
            await asyncio.sleep(_WAIT_SECONDS)
        else:
            return


async def _create_or_update(bus: Bus, spec: StreamSpec) -> None:
    max_age_seconds = spec.max_age_days * _DAY_SECONDS
    config = StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=spec.retention,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW if spec.max_bytes > 0 else DiscardPolicy.OLD,
        max_age=max_age_seconds,
        max_bytes=spec.max_bytes,
        num_replicas=spec.replicas,
        # The server refuses a window longer than messages are kept.
        duplicate_window=min(spec.duplicate_window_seconds, max_age_seconds or spec.duplicate_window_seconds),
        max_msgs_per_subject=1 if spec.last_per_subject_only else -1,
        allow_direct=spec.last_per_subject_only,
        allow_msg_ttl=spec.allow_message_ttl or None,
    )
    manager = (await bus.connected_client()).jetstream(timeout=_API_TIMEOUT_SECONDS)
    try:
        await manager.stream_info(spec.name)
    except NotFoundError:
        try:
            await manager.add_stream(config)
        except BadRequestError as error:
            if error.err_code != _NAME_IN_USE:
                raise
        else:
            return
    await manager.update_stream(config)


async def stream_is_available(bus: Bus, name: str) -> bool:
    """Return whether the stream has a leader that answers within 1.5 s and hears of a majority of its replicas."""
    try:
        await _request(bus, f"STREAM.INFO.{name}", None, _parse_stream_info, timeout_seconds=_PROBE_SECONDS)
    except Unavailable:
        return False
    return True


@dataclass(frozen=True)
class ConsumerProgress:
    """Stream sequences that say how far a durable consumer is."""

    first_sequence: int
    """Of the oldest message kept; `last_sequence` + 1 when there is none."""
    last_sequence: int
    """Of the newest message accepted."""
    ack_floor: int
    """Every message up to here was acknowledged, or is no longer kept."""


async def get_consumer_progress(bus: Bus, stream: str, durable: str) -> ConsumerProgress:
    """Return how far the consumer `durable` is; `last_sequence` counts every append confirmed before the call.

    Raises Unavailable.
    """
    state, consumer = await asyncio.gather(
        _request(bus, f"STREAM.INFO.{stream}", None, _parse_stream_info),
        _request(bus, f"CONSUMER.INFO.{stream}.{durable}", None, _parse_response),
    )
    first, last = int(state["state"]["first_seq"]), int(state["state"]["last_seq"])
    return ConsumerProgress(first, last, max(int(consumer["ack_floor"].get("stream_seq", 0)), first - 1))


async def purge_through(bus: Bus, stream: str, sequence: int) -> None:
    """Delete the messages of a stream up to and including `sequence`. Raises Unavailable."""
    await _request(bus, f"STREAM.PURGE.{stream}", {"seq": sequence + 1}, _parse_response)


async def get_last_message(bus: Bus, stream: str, subject: str) -> bytes | None:
    """Return the payload of the last message on `subject`, or None if there is none. Raises Unavailable.

    Any replica answers. One that has none may be behind, so the leader is asked then.
    """
    direct = f"DIRECT.GET.{stream}.{subject}"
    message = await _request(bus, direct, None, lambda message: message, timeout_seconds=_READ_TIMEOUT_SECONDS)
    status = (message.headers or {}).get("Status")
    if status is None:
        return message.data
    if status != _NOT_FOUND:
        raise Unavailable(f"The message bus did not read {stream}: {status}.")
    stored = await get_last_of_leader(bus, stream, subject)
    return None if stored is None else stored.payload


@dataclass(frozen=True)
class StoredMessage:
    """A message of a stream."""

    sequence: int
    stored_at: datetime
    """By the clock of the server."""
    payload: bytes


async def get_last_of_leader(bus: Bus, stream: str, subject: str) -> StoredMessage | None:
    """Return the last message on `subject` as the stream's leader has it, or None. Raises Unavailable."""
    return await _request(
        bus,
        f"STREAM.MSG.GET.{stream}",
        {"last_by_subj": subject},
        _parse_message,
        timeout_seconds=_READ_TIMEOUT_SECONDS,
    )


async def delete_message(bus: Bus, stream: str, message: StoredMessage, subject: str) -> bool:
    """Delete a message; return False if it is not the last one on `subject` any more. Raises Unavailable."""
    try:
        parameters = {"seq": message.sequence, "no_erase": True}
        await _request(bus, f"STREAM.MSG.DELETE.{stream}", parameters, _parse_response)
    except Unavailable:
        last = await get_last_of_leader(bus, stream, subject)
        if last is not None and last.sequence == message.sequence:
            raise
        return False
    return True


async def purge_before(bus: Bus, stream: str, subjects: str, sequence: int) -> None:
    """Delete the messages on `subjects`, which may have wildcards, with lower sequences. Raises Unavailable."""
    await _request(bus, f"STREAM.PURGE.{stream}", {"filter": subjects, "seq": sequence}, _parse_response)


async def _request(
    bus: Bus,
    operation: str,
    parameters: Mapping[str, int | str] | None,
    parse: Callable[[Msg], T],
    *,
    timeout_seconds: float = _API_TIMEOUT_SECONDS,
) -> T:
    """Return the reply of the JetStream API to a request that may be repeated, parsed. Raises Unavailable.

    It is sent again while JetStream cannot answer it.
    """
    await bus.connected_client()
    payload = json.dumps(parameters).encode() if parameters else b""

    async def attempt(attempt_seconds: float) -> T:
        return parse(await bus.send_request(f"$JS.API.{operation}", payload, timeout_seconds=attempt_seconds))

    try:
        return await retry_temporary(attempt, timeout_seconds)
    except APIError as error:
        raise Unavailable(f"The message bus refused {operation}: {error.description}.") from error
    except NatsError as error:
        raise Unavailable(f"The message bus did not answer {operation}.") from error


def _parse_response(message: Msg) -> dict[str, Any]:
    """Return a response of the JetStream API. Raises APIError if it is an error."""
    response: dict[str, Any] = from_json(message.data)
    if "error" in response:
        APIError.from_error(response["error"])
    return response


def _parse_stream_info(message: Msg) -> dict[str, Any]:
    """Return a response of STREAM.INFO. Raises APIError if it is an error, or the leader may have been replaced."""
    response = _parse_response(message)
    replicas = (response.get("cluster") or {}).get("replicas") or []
    heard = sum(replica["active"] <= _LEASE_SECONDS * 1e9 for replica in replicas)
    if 2 * (1 + heard) <= 1 + len(replicas):
        raise ServiceUnavailableError(description="the leader does not hear of a majority")
    return response


def _parse_message(message: Msg) -> StoredMessage | None:
    """Return the message in a response of STREAM.MSG.GET, None if there is no such message. Raises APIError."""
    try:
        stored = _parse_response(message)["message"]
    except NotFoundError:
        return None
    data = base64.b64decode(stored.get("data", ""))
    return StoredMessage(int(stored["seq"]), datetime.fromisoformat(stored["time"]), data)
