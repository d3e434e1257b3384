"""The bus over NATS: `Bus` sends requests, records, events and jobs; `Router` registers the handlers that answer
requests and work on jobs; `consume` reads a stream in batches."""

from shared.bus.client import Bus
from shared.bus.jetstream.consumer import Batch, consume, consume_events
from shared.bus.jetstream.dead_letters import append_dead_letter
from shared.bus.jetstream.jobs import JOBS, JOBS_DUPLICATE_WINDOW_SECONDS, JOBS_SUBJECTS
from shared.bus.jetstream.streams import (
    ConsumerProgress,
    StoredMessage,
    StreamSpec,
    delete_message,
    ensure_stream,
    get_consumer_progress,
    get_last_message,
    get_last_of_leader,
    purge_before,
    purge_through,
    stream_is_available,
)
from shared.bus.router import Router

__all__ = [
    "JOBS",
    "JOBS_DUPLICATE_WINDOW_SECONDS",
    "JOBS_SUBJECTS",
    "Batch",
    "Bus",
    "ConsumerProgress",
    "Router",
    "StoredMessage",
    "StreamSpec",
    "append_dead_letter",
    "consume",
    "consume_events",
    "delete_message",
    "ensure_stream",
    "get_consumer_progress",
    "get_last_message",
    "get_last_of_leader",
    "purge_before",
    "purge_through",
    "stream_is_available",
]
