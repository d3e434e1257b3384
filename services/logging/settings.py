"""Settings of the logging service: retention and replicas of the streams it owns, beside what every service needs."""

from pydantic import Field

from shared.settings import DatabaseSettings

SEARCH_SECONDS = 25.0
"""Less than the gateway waits for a page (services/gateway/paging.py)."""


class LoggingSettings(DatabaseSettings):
    """Settings of the logging service. Sizes of streams are in bytes; -1: no limit but the disk."""

    stream_replicas: int = Field(default=1, ge=1, le=5)
    """Replicas of every stream: 1 on one node, 3 in a cluster."""
    logs_max_bytes: int = -1
    """Size of `LOGS`, the accepted logs that wait for the database. A full stream refuses new logs with 503."""
    events_max_age_days: float = Field(default=7, ge=0)
    """How long `EVENTS` keeps an event, so how long a consumer may be away without missing one; 0: for ever."""
    events_max_bytes: int = -1
    dead_max_age_days: float = Field(default=0, ge=0)
    """How long `DEAD` keeps a message that failed for good, for operators to look at; 0: for ever."""
    dead_max_bytes: int = -1
    blobs_max_bytes: int = -1
    """Size of the store of large images of logs and prompts. A full one refuses more with 503."""
    blobs_unused_seconds: float = Field(default=3600, gt=0)
    """How long an image that nothing names any more is kept after it was used last. More than ten minutes longer than a
    call to a model may take (`EVERLOOP_PROVIDER_TOTAL_SECONDS`): the log that names its images comes after it."""
    search_seconds: float = Field(default=SEARCH_SECONDS, gt=0)
    """How long the database works on one search of logs before it is refused with 503."""
    read_wait_seconds: float = Field(default=4.0, gt=0)
    """How long a read waits for accepted logs that are not stored yet, before it is answered 503: a little less than
    its caller waits. A longer wait means that the database or the bus is in trouble."""
    logs_trim_seconds: float = Field(default=30, gt=0)
    """How often stored messages are removed from `LOGS`."""
