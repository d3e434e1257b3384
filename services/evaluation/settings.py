"""What evaluation reads from its environment."""

from pydantic import Field

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """Everything a service needs, and how the stream of work is kept."""

    jobs_replicas: int = Field(default=1, ge=1, le=5)
    """Copies of the `JOBS` stream: 1 on one node, 3 in a cluster."""
    jobs_max_age_days: float = Field(default=30, ge=0)
    """Work that nobody did for so long is given up. 0: never."""
    jobs_max_bytes: int = -1
    """A full stream refuses new work. -1: as the disk allows."""
