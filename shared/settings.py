"""What every process needs to know from its environment. Names are `EVERLOOP_` + the field, upper case."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Settings of any service; a service with more inherits this."""

    model_config = SettingsConfigDict(env_prefix="EVERLOOP_", extra="ignore", frozen=True)

    nats_url: str = "nats://127.0.0.1:4222"
    """Comma-separated for a cluster."""
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    log_level: str = "INFO"


class DatabaseSettings(ServiceSettings):
    """Settings of a service that has a database: all but the gateway."""

    mongo_url: SecretStr = SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0")
    mongo_user: str | None = None
    """In place of a user in the URL; it belongs to the service's own database unless the URL has an `authSource`."""
    mongo_password: SecretStr | None = None
    mongo_prefix: str = "everloop"
    """Each service's database is `<prefix>_<service>`."""


class EncryptionSettings(ServiceSettings):
    """Settings of the two services that handle provider keys and tool secrets: gateway and generation."""

    secret: SecretStr = Field(min_length=32)
    """32 random bytes, URL-safe base64: encrypts provider keys on the bus and at rest. There is no default."""
    secret_fallbacks: SecretStr | None = None
    """More such secrets, comma-separated. They only decrypt: what was encrypted before the last rotation."""
