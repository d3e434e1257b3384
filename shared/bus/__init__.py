"""The bus: four verbs over NATS. `Bus` asks, appends and announces; `Router` answers; `consume` reads streams."""

from shared.bus.client import Bus
from shared.bus.consumer import Batch, consume
from shared.bus.router import Router
from shared.bus.streams import ConsumerProgress, StreamSpec, ensure_stream, newest, progress, trim

__all__ = [
    "Batch",
    "Bus",
    "ConsumerProgress",
    "Router",
    "StreamSpec",
    "consume",
    "ensure_stream",
    "newest",
    "progress",
    "trim",
]
