"""The JetStream streams and what they keep. Each is made by the service that owns it."""

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
"""For so long a stream remembers message ids, unless its `StreamSpec` says otherwise."""
_DAY_SECONDS = 86_400.0
_ANSWER_SECONDS = 2.0
_READ_SECONDS = 5.0
_NONE = "404"


@dataclass(frozen=True)
class StreamSpec:
    """What a stream holds and for how long. `replicas` is 1 on one node and 3 in a cluster."""

    name: str
    subjects: tuple[str, ...]
    retention: RetentionPolicy = RetentionPolicy.LIMITS
    max_age_days: float = 0
    """0: for ever."""
    max_bytes: int = -1
    """-1: as the disk allows. A full stream refuses, it never drops what it has."""
    replicas: int = 1
    newest_only: bool = False
    """Of each subject the newest message is kept, and can be asked for: `newest`."""
    duplicate_window_seconds: float = DUPLICATE_WINDOW_SECONDS
    """A message whose id was appended within this time is dropped. The server keeps these ids in memory."""
    brief: bool = False
    """A message may say how many seconds it is kept: header `Nats-TTL`. Needs nats-server 2.11."""


async def ensure_stream(bus: Bus, spec: StreamSpec) -> None:
    """Create the stream, or bring it to `spec`."""
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
        max_msgs_per_subject=1 if spec.newest_only else -1,
        allow_direct=spec.newest_only,
        allow_msg_ttl=spec.brief or None,
    )
    manager = (await bus.online()).jetstream()
    try:
        await manager.stream_info(spec.name)
    except NotFoundError:
        await manager.add_stream(config)
    else:
        await manager.update_stream(config)


@dataclass(frozen=True)
class ConsumerProgress:
    """How far a durable consumer is in its stream, in sequences."""

    first: int
    """The oldest message kept; one more than `last` when there is none."""
    last: int
    """The newest message accepted."""
    floor: int
    """Everything up to here was acknowledged, or is no longer kept."""


async def progress(bus: Bus, stream: str, durable: str) -> ConsumerProgress:
    """Where `durable` is. `last` counts every message whose append was confirmed before this was asked."""
    state, consumer = await asyncio.gather(
        _manage(bus, f"STREAM.INFO.{stream}"), _manage(bus, f"CONSUMER.INFO.{stream}.{durable}")
    )
    first, last = int(state["state"]["first_seq"]), int(state["state"]["last_seq"])
    return ConsumerProgress(first, last, max(int(consumer["ack_floor"].get("stream_seq", 0)), first - 1))


async def trim(bus: Bus, stream: str, through: int) -> None:
    """Forget the messages up to and including sequence `through`."""
    await _manage(bus, f"STREAM.PURGE.{stream}", {"seq": through + 1})


async def newest(bus: Bus, stream: str, subject: str) -> bytes | None:
    """What the newest message on `subject` says; None if there is none.

    Any replica answers. One that has nothing may be behind, so the leader is asked then.
    """
    found = await _request(bus, f"DIRECT.GET.{stream}.{subject}", timeout_seconds=_READ_SECONDS)
    status = (found.headers or {}).get("Status")
    if status is None:
        return found.data
    if status != _NONE:
        raise Unavailable(f"The message bus did not read {stream}: {status}.")
    operation = f"STREAM.MSG.GET.{stream}"
    told = await _request(bus, operation, {"last_by_subj": subject}, timeout_seconds=_READ_SECONDS)
    answer = from_json(told.data)
    if answer.get("error", {}).get("code") == int(_NONE):
        return None
    return base64.b64decode(_approved(answer, operation)["message"].get("data", ""))


async def _manage(bus: Bus, operation: str, question: dict[str, int] | None = None) -> dict[str, Any]:
    return _approved(from_json((await _request(bus, operation, question)).data), operation)


def _approved(answer: dict[str, Any], operation: str) -> dict[str, Any]:
    if "error" in answer:
        raise Unavailable(f"The message bus refused {operation}: {answer['error'].get('description')}.")
    return answer


async def _request(
    bus: Bus,
    operation: str,
    question: Mapping[str, int | str] | None = None,
    *,
    timeout_seconds: float = _ANSWER_SECONDS,
) -> Msg:
    client = await bus.online()
    try:
        return await client.request(
            f"$JS.API.{operation}", json.dumps(question).encode() if question else b"", timeout=timeout_seconds
        )
    except (NatsTimeoutError, NoRespondersError, ConnectionClosedError) as error:
        raise Unavailable(f"The message bus did not answer {operation}.") from error
