"""The environment of `logging`: what the streams it owns keep, beside what every service needs."""

from pydantic import Field

from shared.settings import DatabaseSettings


class LoggingSettings(DatabaseSettings):
    """Settings of the logging service."""

    stream_replicas: int = Field(default=1, ge=1, le=5)
    """Copies of every stream: 1 on one node, 3 in a cluster."""
    logs_max_bytes: int = -1
    """Accepted logs that may wait for the database; -1: as the disk allows. Full, it refuses new logs with 503."""
    events_max_age_days: float = Field(default=7, ge=0)
    """How long a reader of facts may be away without missing one; 0: for ever."""
    events_max_bytes: int = -1
    dead_max_age_days: float = Field(default=0, ge=0)
    """What failed for good is kept for someone to look at; 0: for ever."""
    dead_max_bytes: int = -1
    blobs_max_bytes: int = -1
    """Large images of logs and prompts, kept for ever; -1: as the disk allows. Full, it refuses new ones with 503."""
    logs_trim_seconds: float = Field(default=30, gt=0)
    """How often stored entries are removed from the stream `LOGS`."""
