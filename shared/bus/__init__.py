"""The bus: four verbs over NATS. `Bus` asks, appends, announces and enqueues; `Router` answers and works; `consume`
reads streams."""

from shared.bus.client import Bus
from shared.bus.consumer import Batch, consume
from shared.bus.dead_letters import append_dead_letter
from shared.bus.jobs import JOBS, JOBS_DUPLICATE_WINDOW_SECONDS, JOBS_SUBJECTS
from shared.bus.router import Router
from shared.bus.streams import ConsumerProgress, StreamSpec, ensure_stream, newest, progress, trim

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
    "newest",
    "progress",
    "trim",
]
