"""What this service needs to know from its environment. Addresses and keys of providers: `providers/registry.py`."""

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Names are `EVERLOOP_` + the field, upper case."""

    local_model_url: str | None = None
    """Address of the OpenAI-compatible server with the small model, up to `/v1`. None: it does not run."""
    provider_read_seconds: float = Field(900.0, gt=0)
    """How long a provider may be silent before it is given up."""
    outbound_allow: str = ""
    """What tools may call although it is not on the public internet: hosts as written in URLs, networks in CIDR
    notation, separated by commas."""
    serpapi_url: str = "https://serpapi.com"
    """Where Google tools search."""
    pinecone_url: str = "https://api.pinecone.io"
    """Where Pinecone tools ask for the host of an index."""
    embeddings_url: str = "https://api.openai.com/v1"
    """Where Pinecone tools have their query embedded, up to `/v1`."""
