"""Settings that services share, read from the environment: `EVERLOOP_` + the field's name in upper case."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _validate_public_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("it must be the address that people open, like https://everloop.example.com")
    if parts.path.strip("/"):
        raise ValueError("it has no path: Everloop answers at the root of a host")
    return f"{parts.scheme}://{parts.netloc}".lower()


PublicUrl = Annotated[str, AfterValidator(_validate_public_url)]
"""Scheme and host that people open in their browser, without a slash at the end."""


class ServiceSettings(BaseSettings):
    """Settings of every service."""

    model_config = SettingsConfigDict(
        env_prefix="EVERLOOP_",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # a wrong secret would stand in the log in clear
    )

    nats_url: str = "nats://127.0.0.1:4222"
    """Address of nats-server; several, comma-separated, for a cluster."""
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_connect_seconds: float = Field(default=2.0, gt=0)
    """How long a server of `nats_url` may take to accept a connection before the next one is tried."""
    nats_ping_seconds: float = Field(default=2.0, gt=0)
    """How often the server is pinged."""
    nats_missed_pings: int = Field(default=2, ge=1)
    """After so many pings without an answer another server of `nats_url` is connected to."""
    bus_heartbeat_seconds: float = Field(default=5.0, gt=0)
    """How often a service sends a heartbeat to the caller of a streamed command."""
    bus_silence_seconds: float = Field(default=15.0, gt=0)
    """After so long without even a heartbeat the caller of a streamed command gives up. At least twice
    `bus_heartbeat_seconds` of any process that answers."""
    log_level: str = "INFO"

    @field_validator("bus_silence_seconds")
    @classmethod
    def _is_at_least_two_heartbeats(cls, value: float, info: ValidationInfo) -> float:
        heartbeat = info.data.get("bus_heartbeat_seconds")
        if heartbeat is not None and value < 2 * heartbeat:
            raise ValueError(
                f"it must be at least {2 * heartbeat:g}, twice EVERLOOP_BUS_HEARTBEAT_SECONDS: "
                "one late heartbeat would end a call"
            )
        return value


class DatabaseSettings(ServiceSettings):
    """Settings of a service with a database: all but the gateway."""

    mongo_url: SecretStr = SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0")
    mongo_user: str | None = None
    """Instead of a user in the URL; it belongs to the service's own database unless the URL has an `authSource`."""
    mongo_password: SecretStr | None = None
    mongo_prefix: str = "everloop"
    """Each service's database is `<prefix>_<service>`."""
    mongo_heartbeat_seconds: float = Field(default=2.0, ge=0.5)
    """How often each member of the replica set is asked how it is; one that answers nothing for 3 s more is left."""


class EncryptionSettings(ServiceSettings):
    """Settings of the two services that handle provider keys and tool secrets: gateway and generation."""

    secret: SecretStr = Field(min_length=32)
    """32 random bytes, URL-safe base64: encrypts provider keys on the bus and at rest. There is no default."""
    secret_fallbacks: SecretStr | None = None
    """More such secrets, comma-separated. They only decrypt: what was encrypted before the last rotation."""
