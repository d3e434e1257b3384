"""Settings of the gateway, read from environment variables `EVERLOOP_…`."""

from pydantic import Field

from shared.settings import EncryptionSettings, PublicUrl


class Settings(EncryptionSettings):
    """The settings of every service, the address to listen on, limits of callers, and lifetimes of cached answers."""

    public_url: PublicUrl | None = None
    """The address that people open in their browser. Behind TLS the cookies of sessions depend on it."""
    http_host: str = "127.0.0.1"
    http_port: int = 8000
    http_keep_alive_seconds: float = Field(default=75.0, gt=0)
    """How long a connection without a request is kept open. Longer than a load balancer before it keeps its own."""
    http_connections: int = Field(default=2048, ge=1)
    """Open connections; fewer if the process may not open as many files. Beyond it, the one that has waited longest for
    its caller is closed, of the address that has most such."""
    http_waiting_per_address: int = Field(default=1024, ge=1)
    """Connections of one address without a complete request. Beyond it, the one that has waited longest is closed."""
    http_trusted_proxies: str = ""
    """Addresses and CIDRs, comma-separated, to which `http_waiting_per_address` does not apply, and whose
    X-Forwarded-For is believed."""
    http_head_bytes: int = Field(default=32 * 1024, ge=1024)
    """Of the request line and all headers; the request line alone may take half of it."""
    http_head_seconds: float = Field(default=15.0, gt=0)
    """How long request line and headers may take."""
    http_body_seconds: float = Field(default=20.0, gt=0)
    """How long the next 64 KiB of a body, or its end, may take."""
    http_write_seconds: float = Field(default=60.0, gt=0)
    """How long a caller may take to read 64 KiB of a response."""
    rate_per_key: int = Field(default=300_000, ge=0)
    """Requests in a minute with one API key, or of one browser session, through all gateways. 0: no limit."""
    rate_per_address_unauthenticated: int = Field(default=600, ge=0)
    """Requests in a minute of one address (of IPv6: one /64) whose key or session is not valid, or that need neither,
    as to sign in, through all gateways. 0: no limit."""
    body_limit_bytes: int = 48 * 1024 * 1024
    """Largest request body, images included: 36 MiB of them before base64."""
    large_bodies_bytes: int = 128 * 1024 * 1024
    """What the bodies of all requests in hand may take, by what has arrived of them and what their JSON takes when it
    is parsed; at least twice what one may take. An organisation holds at most as much as is free for the others."""
    caller_fresh_seconds: float = 15.0
    """How long a principal of authz is used before it is requested again, unless an `AccessChanged` event drops it."""
    caller_stale_seconds: float = 30.0
    """How long at most a principal is relied on that authz has not confirmed: after that its calls are refused (503)
    until authz can be asked. A gateway that is cut off hears of no revoked key."""
    stale_seconds: float = 900.0
    """How long a cached answer is used while the service that gave it is unavailable."""
