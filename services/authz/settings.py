"""Settings of the authz service."""

from pathlib import Path

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """What every service needs, the bootstrap file, and the bounds of the cache of callers."""

    bootstrap_file: Path | None = None
    """JSON file with `email`, `password` and `api_key` of the first Admin, read if there is no organisation yet."""
    caller_fresh_seconds: float = 15.0
    """How long a cached caller is used without asking the database, unless access in its organisation changes."""
    callers_most: int = 10_000
    """Bounds the cached callers; some 2 KB each."""
