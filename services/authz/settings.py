"""What authz reads from its environment."""

from pathlib import Path

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """Everything a service needs, and whom to let in first."""

    bootstrap_file: Path | None = None
    """JSON with `email`, `password` and `api_key`: the first Admin, made when there is no organisation yet."""
    caller_fresh_seconds: float = 30.0
    """How long a caller is remembered without hearing of a change, while the database answers."""
    callers_most: int = 10_000
    """Callers remembered at once; some 2 KB each."""
