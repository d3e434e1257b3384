"""What this service needs to know from its environment. Addresses and keys of providers: `providers/registry.py`."""

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Names are `EVERLOOP_` + the field, upper case."""

    local_model_url: str | None = None
    """Address of the OpenAI-compatible server with the small model, up to `/v1`. None: it does not run."""
    provider_read_seconds: float = Field(900.0, gt=0)
    """How long a provider may be silent before it is given up."""
