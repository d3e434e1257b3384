"""Every registered provider, with a fake server for its dialect."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.generation.models.request import ModelRequest, ModelResponse, ResponseDelta, StreamAccumulator
from services.generation.providers.base import PreparedRequest
from services.generation.providers.dialects import anthropic, bedrock, cohere, gemini, openai, replicate
from services.generation.providers.registry import PROVIDER_SPECS, ProviderSpec
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from tests.fake_servers import anthropic as fake_anthropic
from tests.fake_servers import bedrock as fake_bedrock
from tests.fake_servers import cohere as fake_cohere
from tests.fake_servers import gemini as fake_gemini
from tests.fake_servers import openai as fake_openai
from tests.fake_servers import replicate as fake_replicate
from tests.fake_servers.server import FakeServer

FAKE_SERVERS: dict[Any, Callable[[], FakeServer]] = {
    anthropic: fake_anthropic.start,
    bedrock: fake_bedrock.start,
    cohere: fake_cohere.start,
    gemini: fake_gemini.start,
    openai: fake_openai.start,
    replicate: fake_replicate.start,
}
"""By dialect; a provider with one of these needs nothing else to be tested."""
MODELS = {"openai": "gpt-4o", "replicate": "meta/meta-llama-3-70b-instruct"}
"""By provider, if it does not accept any model name."""
ENVIRONMENTS: dict[str, dict[str, str]] = {}
"""By provider: variables besides base URL and key; `{address}` is replaced by the fake server's URL."""
KEY = "key-that-must-stay-secret"

DUMMY = ProviderSpec(
    name="dummy", title="Dummy", dialect=openai, base_url="http://127.0.0.1:1", key_variable="DUMMY_API_KEY"
)
"""Stands for the next OpenAI-compatible provider somebody adds: the suite runs for it, too."""
EVERY_PROVIDER = [*PROVIDER_SPECS.values(), DUMMY]

_started: dict[Any, FakeServer] = {}


def fake_server_of(spec: ProviderSpec) -> FakeServer:
    """Return the fake server for the dialect, started once, with the state of earlier tests cleared."""
    if spec.dialect not in FAKE_SERVERS:
        name = getattr(spec.dialect, "__name__", spec.dialect)
        pytest.fail(
            f"Add a fake server for {name} to tests/fake_servers, and a line for it to FAKE_SERVERS in {__name__}."
        )
    fake_server = _started.get(spec.dialect)
    if fake_server is None:
        fake_server = _started[spec.dialect] = FAKE_SERVERS[spec.dialect]()
    fake_server.clear()
    return fake_server


@dataclass
class ServedProvider:
    """A provider whose base URL is a fake server."""

    spec: ProviderSpec
    fake_server: FakeServer
    providers: Providers
    client: Client

    @property
    def key(self) -> str | None:
        """The key that is sent, or None."""
        return KEY if self.spec.key_variable else None

    @property
    def config(self) -> dict[str, Any]:
        """Fields of a minimal config."""
        model = MODELS.get(self.spec.name, "some-model")
        return {"provider": self.spec.name, "model": model, "endpoint": "chat", "max_tokens": 100}

    def chat(self, *messages: ChatMessage, config: Mapping[str, Any] | None = None, **fields: Any) -> ModelRequest:
        """Return a chat request with these messages, or with a greeting."""
        config_ = ModelConfig.model_validate(self.config | dict(config or {}))
        return ModelRequest(config_, list(messages) or [ChatMessage(role="user", content="Hello")], **fields)

    def prompt(self, **fields: Any) -> ModelRequest:
        """Return a completion request."""
        return ModelRequest(ModelConfig.model_validate(self.config | {"endpoint": "complete"}), prompt="Once", **fields)

    def prepare(self, request: ModelRequest) -> list[PreparedRequest]:
        """Prepare the request."""
        return self.providers.prepare(request, {})

    async def complete(self, request: ModelRequest) -> ModelResponse:
        """Send the first prepared request and return its response."""
        return await self.client.complete(self.prepare(request)[0])

    async def stream(self, request: ModelRequest) -> StreamAccumulator:
        """Send it as a stream and accumulate the events."""
        accumulator = StreamAccumulator()
        async for chunk in self.chunks(request):
            accumulator.add(chunk)
        return accumulator

    def chunks(self, request: ModelRequest) -> AsyncIterator[ResponseDelta]:
        """Send it as a stream and yield the events."""
        return self.client.stream(self.prepare(replace(request, stream=True))[0])


@asynccontextmanager
async def serve(spec: ProviderSpec, address: str | None = None) -> AsyncIterator[ServedProvider]:
    """Yield the provider at its fake server, or at another URL; then wait until every connection is closed."""
    fake_server = fake_server_of(spec)
    address = address or fake_server.url
    environment = {name: value.format(address=address) for name, value in ENVIRONMENTS.get(spec.name, {}).items()}
    if spec.key_variable:
        environment[spec.key_variable] = KEY
    if spec.base_url_variable:
        environment[spec.base_url_variable] = address
    else:
        spec = replace(spec, base_url=address)
    client = Client(2.0, {})
    try:
        yield ServedProvider(spec, fake_server, Providers(environment, None, {spec.name: spec}), client)
    finally:
        await client.close()
        await _closed(fake_server)


async def _closed(fake_server: FakeServer) -> None:
    async with asyncio.timeout(10):
        while fake_server.open_connections or fake_server.streaming:  # noqa: ASYNC110 - threads set it
            await asyncio.sleep(0.002)
