"""What this service needs to know from its environment. Addresses and keys of providers: `providers/registry.py`."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import from_json
from pydantic_settings import NoDecode

from shared.contracts.projects import Provider
from shared.settings import DatabaseSettings, EncryptionSettings

_EXAMPLE = '{"llamacpp": {"base_url": "http://127.0.0.1:8080/v1"}}'
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


class CompatibleProvider(BaseModel):
    """A server that speaks OpenAI's language and has no row in `providers/registry.py`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str
    """Up to `/v1`, or whatever comes before `/chat/completions`."""
    title: str | None = Field(None, min_length=1)
    """How it is called in errors; its name by default."""
    key_variable: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable with its key. None: it needs none, and is shown none."""
    lacks: frozenset[str] = frozenset()
    """Features it cannot do (`features.Feature`): they are refused with a sentence."""

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("it must be an address like https://llm.example.com/v1, without a query")
        return value


class Settings(EncryptionSettings, DatabaseSettings):
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
    """An organisation's calls in a row that fail before a model is left alone."""
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
    compatible_providers: Annotated[dict[Provider, CompatibleProvider], NoDecode] = {}
    """More providers, by name: a JSON object."""
    azure_hosts: str = ""
    """Hosts beside Azure's own that a request's `openai_azure_endpoint` may name, separated by commas; read by
    `providers/azure.py`."""

    @field_validator("compatible_providers", mode="before")
    @classmethod
    def _is_json(cls, value: object) -> object:
        try:
            return from_json(value or "{}") if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"it must be a JSON object like {_EXAMPLE}: {error}") from error

    @field_validator("azure_hosts")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        for host in filter(None, (part.strip().lower() for part in value.split(","))):
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not the name of a host: write names alone, without https:// and path")
        return value
