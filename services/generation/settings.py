"""What this service needs to know from its environment. Addresses and keys of providers: `providers/registry.py`."""

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Names are `EVERLOOP_` + the field, upper case."""

    local_model_url: str | None = None
    """Address of the OpenAI-compatible server with the small model, up to `/v1`. None: it does not run."""
    provider_read_seconds: float = Field(900.0, gt=0)
    """How long a provider may be silent before it is given up."""
    provider_total_seconds: float = Field(1200.0, gt=0)
    """How long a call may take with all its tries."""
    provider_tries: int = Field(3, ge=1, le=10)
    """How often a call is made that a provider refuses for load or fails."""
    provider_at_once: int = Field(256, ge=1)
    """Calls at a time to one provider's address; more wait."""
    provider_failures: int = Field(10, ge=1)
    """Calls in a row that fail before a provider's address is left alone."""
    provider_rest_seconds: float = Field(15.0, gt=0)
    """For how long it is left alone."""
    outbound_allow: str = ""
    """What tools may call although it is not on the public internet: hosts as written in URLs, networks in CIDR
    notation, separated by commas."""
    serpapi_url: str = "https://serpapi.com"
    """Where Google tools search."""
    pinecone_url: str = "https://api.pinecone.io"
    """Where Pinecone tools ask for the host of an index."""
    embeddings_url: str = "https://api.openai.com/v1"
    """Where Pinecone tools have their query embedded, up to `/v1`."""
