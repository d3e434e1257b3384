"""Settings of the gateway, read from environment variables `EVERLOOP_…`."""

from pydantic import Field

from shared.settings import EncryptionSettings


class Settings(EncryptionSettings):
    """The settings of every service, the address to listen on, limits of bodies, and lifetimes of cached answers."""

    http_host: str = "127.0.0.1"
    http_port: int = 8000
    http_keep_alive_seconds: float = Field(default=75.0, gt=0)
    """How long a connection without a request is kept open. Longer than a load balancer before it keeps its own."""
    body_limit_bytes: int = 48 * 1024 * 1024
    """Largest request body, images included: 36 MiB of them before base64."""
    large_bodies_bytes: int = 256 * 1024 * 1024
    """Of all bodies over 64 KiB that are read or stored at the same time; at least `body_limit_bytes`. The process
    takes up to three times as much memory."""
    caller_fresh_seconds: float = 30.0
    """How long a principal of authz is used before it is requested again, unless an `AccessChanged` event drops it."""
    stale_seconds: float = 900.0
    """How long a cached answer is used while the service that gave it is unavailable."""
