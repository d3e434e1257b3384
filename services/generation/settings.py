"""Settings of the generation service. Addresses and keys of providers are read by `providers/registry.py`."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import from_json
from pydantic_settings import NoDecode

from shared.contracts.generation.projects import Provider
from shared.settings import DatabaseSettings, EncryptionSettings

_EXAMPLE = '{"llamacpp": {"base_url": "http://127.0.0.1:8080/v1"}}'
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


class CompatibleProvider(BaseModel):
    """A server with an OpenAI-compatible API that has no row in `providers/registry.py`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str
    """The address up to `/v1`, or whatever comes before `/chat/completions`."""
    title: str | None = Field(None, min_length=1)
    """Its name in errors; by default its key in `compatible_providers`."""
    key_variable: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable with its key. None: no key is sent."""
    lacks: frozenset[str] = frozenset()
    """Features it does not support (`features.Feature`): requests that use them are refused with the remedy."""

    @field_validator("base_url")
    @classmethod
    def _validate_base_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("it must be an address like https://llm.example.com/v1, without a query")
        return value


class Settings(EncryptionSettings, DatabaseSettings):
    """Read from environment variables named `EVERLOOP_` and the field in upper case."""

    local_model_url: str | None = None
    """Base URL of the OpenAI-compatible server with the local model, up to `/v1`. None: it does not run."""
    provider_read_seconds: float = Field(900.0, gt=0)
    """Read timeout: a call fails if its provider sends nothing for so long."""
    provider_total_seconds: float = Field(1200.0, gt=0)
    """Timeout of a call, its retries and their delays included."""
    provider_tries: int = Field(3, ge=1, le=10)
    """Attempts at a call that fails with an error worth a retry (overload, rate limit, a defect of the provider)."""
    provider_at_once: int = Field(256, ge=1)
    """Concurrent calls to one address of a provider; more wait."""
    provider_failures: int = Field(10, ge=1)
    """Consecutive failed calls of an organisation that open the circuit breaker of a model."""
    provider_rest_seconds: float = Field(15.0, gt=0)
    """How long an open circuit breaker refuses calls."""
    outbound_allow: str = ""
    """What tools and images by address may call besides the public internet: hosts as written in URLs, networks in CIDR
    notation, separated by commas."""
    outbound_at_once: int = Field(256, ge=1)
    """Concurrent calls of tools and fetches of images; at most a quarter for one organisation, half for one host."""
    outbound_lookups_at_once: int = Field(64, ge=1)
    """Concurrent look-ups of names for these calls; at most a quarter for one organisation, half for one domain."""
    outbound_bytes: int = Field(96 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of responses to these calls in memory; at most half for one organisation."""
    serpapi_url: str = "https://serpapi.com"
    """Base URL of SerpAPI, for google tools."""
    pinecone_url: str = "https://api.pinecone.io"
    """Base URL of Pinecone's control plane, where pinecone tools get the host of an index."""
    embeddings_url: str = "https://api.openai.com/v1"
    """Base URL of OpenAI's API, up to `/v1`, where pinecone tools get the embedding of a query."""
    compatible_providers: Annotated[dict[Provider, CompatibleProvider], NoDecode] = {}
    """More OpenAI-compatible providers by name, as a JSON object."""
    azure_hosts: str = ""
    """Hosts besides Azure's own that a request's `openai_azure_endpoint` may name, separated by commas; read from the
    environment by `providers/dialects/azure.py`."""

    @field_validator("compatible_providers", mode="before")
    @classmethod
    def _parse_json(cls, value: object) -> object:
        try:
            return from_json(value or "{}") if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"it must be a JSON object like {_EXAMPLE}: {error}") from error

    @field_validator("azure_hosts")
    @classmethod
    def _validate_hosts(cls, value: str) -> str:
        for host in filter(None, (part.strip().lower() for part in value.split(","))):
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not the name of a host: write names alone, without https:// and path")
        return value
