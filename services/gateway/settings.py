"""What the gateway reads from its environment."""

from shared.settings import EncryptionSettings


class Settings(EncryptionSettings):
    """Everything a service needs, and how to listen."""

    http_host: str = "127.0.0.1"
    http_port: int = 8000
    body_limit_bytes: int = 48 * 1024 * 1024
    """Largest request body, images included: 36 MiB of them before base64."""
    large_bodies_bytes: int = 256 * 1024 * 1024
    """Of all bodies over 64 KiB that are read or stored at the same time, and never less than one may have. The process
    takes up to three times as much."""
    caller_fresh_seconds: float = 30.0
    """How long an answer of authz is trusted without hearing of a change."""
    stale_seconds: float = 900.0
    """How long a remembered answer serves while the service that gave it is away."""
