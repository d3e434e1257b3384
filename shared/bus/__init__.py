"""The bus over NATS: `Bus` sends requests, records, events and jobs; `Router` registers the handlers that answer
requests and work on jobs; `consume` reads a stream in batches."""

from shared.bus.client import Bus
from shared.bus.consumer import Batch, consume
from shared.bus.dead_letters import append_dead_letter
from shared.bus.jobs import JOBS, JOBS_DUPLICATE_WINDOW_SECONDS, JOBS_SUBJECTS
from shared.bus.router import Router
from shared.bus.streams import (
    ConsumerProgress,
    StreamSpec,
    ensure_stream,
    get_consumer_progress,
    get_last_message,
    purge_through,
)

__all__ = [
    "JOBS",
    "JOBS_DUPLICATE_WINDOW_SECONDS",
    "JOBS_SUBJECTS",
    "Batch",
    "Bus",
    "ConsumerProgress",
    "Router",
    "StreamSpec",
    "append_dead_letter",
    "consume",
    "ensure_stream",
    "get_consumer_progress",
    "get_last_message",
    "purge_through",
]
