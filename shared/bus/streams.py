"""The JetStream streams and what they keep. Each is made by the service that owns it."""

from dataclasses import dataclass

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from shared.bus.client import Bus

DUPLICATE_WINDOW_SECONDS = 120.0
_DAY_SECONDS = 86_400.0


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


async def ensure_stream(bus: Bus, spec: StreamSpec) -> None:
    """Create the stream, or bring it to `spec`."""
    config = StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=spec.retention,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW if spec.max_bytes > 0 else DiscardPolicy.OLD,
        max_age=spec.max_age_days * _DAY_SECONDS,
        max_bytes=spec.max_bytes,
        num_replicas=spec.replicas,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
    )
    manager = (await bus.online()).jetstream()
    try:
        await manager.stream_info(spec.name)
    except NotFoundError:
        await manager.add_stream(config)
    else:
        await manager.update_stream(config)
