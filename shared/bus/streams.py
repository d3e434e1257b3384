"""JetStream streams: how they are created, read at one subject, purged, and how far a consumer is in them.

Each stream is created by the service that owns it (docs/architecture/bus.md).
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from pydantic_core import from_json

from shared.bus.client import Bus
from shared.errors import Unavailable

DUPLICATE_WINDOW_SECONDS = 120.0
"""How long a stream remembers message ids, unless its `StreamSpec` says otherwise."""
_DAY_SECONDS = 86_400.0
_API_TIMEOUT_SECONDS = 2.0
"""How long an operation of the JetStream API may take."""
_READ_TIMEOUT_SECONDS = 5.0
"""How long reading a message may take."""
_NOT_FOUND = "404"


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
    """Create the stream, or update its configuration to `spec`."""
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
    manager = (await bus.connected_client()).jetstream()
    try:
        await manager.stream_info(spec.name)
    except NotFoundError:
        await manager.add_stream(config)
    else:
        await manager.update_stream(config)


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
        _js_api(bus, f"STREAM.INFO.{stream}"), _js_api(bus, f"CONSUMER.INFO.{stream}.{durable}")
    )
    first, last = int(state["state"]["first_seq"]), int(state["state"]["last_seq"])
    return ConsumerProgress(first, last, max(int(consumer["ack_floor"].get("stream_seq", 0)), first - 1))


async def purge_through(bus: Bus, stream: str, sequence: int) -> None:
    """Delete the messages of a stream up to and including `sequence`. Raises Unavailable."""
    await _js_api(bus, f"STREAM.PURGE.{stream}", {"seq": sequence + 1})


async def get_last_message(bus: Bus, stream: str, subject: str) -> bytes | None:
    """Return the payload of the last message on `subject`, or None if there is none. Raises Unavailable.

    Any replica answers. One that has none may be behind, so the leader is asked then.
    """
    message = await _request(bus, f"DIRECT.GET.{stream}.{subject}", timeout_seconds=_READ_TIMEOUT_SECONDS)
    status = (message.headers or {}).get("Status")
    if status is None:
        return message.data
    if status != _NOT_FOUND:
        raise Unavailable(f"The message bus did not read {stream}: {status}.")
    operation = f"STREAM.MSG.GET.{stream}"
    reply = await _request(bus, operation, {"last_by_subj": subject}, timeout_seconds=_READ_TIMEOUT_SECONDS)
    response = from_json(reply.data)
    if response.get("error", {}).get("code") == int(_NOT_FOUND):
        return None
    return base64.b64decode(_raise_for_error(response, operation)["message"].get("data", ""))


async def _js_api(bus: Bus, operation: str, parameters: dict[str, int] | None = None) -> dict[str, Any]:
    return _raise_for_error(from_json((await _request(bus, operation, parameters)).data), operation)


def _raise_for_error(response: dict[str, Any], operation: str) -> dict[str, Any]:
    """Return a response of the JetStream API. Raises Unavailable if it is an error."""
    if "error" in response:
        raise Unavailable(f"The message bus refused {operation}: {response['error'].get('description')}.")
    return response


async def _request(
    bus: Bus,
    operation: str,
    parameters: Mapping[str, int | str] | None = None,
    *,
    timeout_seconds: float = _API_TIMEOUT_SECONDS,
) -> Msg:
    client = await bus.connected_client()
    try:
        return await client.request(
            f"$JS.API.{operation}", json.dumps(parameters).encode() if parameters else b"", timeout=timeout_seconds
        )
    except (NatsTimeoutError, NoRespondersError, ConnectionClosedError) as error:
        raise Unavailable(f"The message bus did not answer {operation}.") from error
