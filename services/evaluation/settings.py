"""Settings of the evaluation service."""

from pydantic import Field

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """What every service needs, and replicas and retention of the `JOBS` stream."""

    jobs_replicas: int = Field(default=1, ge=1, le=5)
    """Replicas of the `JOBS` stream: 1 on one node, 3 in a cluster."""
    jobs_max_age_days: float = Field(default=30, ge=0)
    """Days after which the stream drops a job that no worker finished; 0: never."""
    jobs_max_bytes: int = -1
    """Size of the stream in bytes; a full one refuses new jobs. -1: no limit but the disk."""
