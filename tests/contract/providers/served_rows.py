"""Every row of the registry, each with the fake server that speaks its language."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.generation.models.request import ModelRequest, ModelResponse, ResponseDelta, StreamAccumulator
from services.generation.providers.base import PreparedRequest
from services.generation.providers.dialects import anthropic, bedrock, cohere, gemini, openai, replicate
from services.generation.providers.registry import ROWS, Row
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
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
"""By dialect. A row on a dialect that is here needs nothing else to be tested."""
MODELS = {"openai": "gpt-4o", "replicate": "meta/meta-llama-3-70b-instruct"}
"""By row, where not just any name will do."""
ENVIRONMENTS: dict[str, dict[str, str]] = {}
"""By row: what it needs to know besides its address and its key. `{address}` is the fake server's."""
KEY = "key-that-nobody-may-see"

DUMMY = Row(name="dummy", title="Dummy", dialect=openai, base_url="http://127.0.0.1:1", key_variable="DUMMY_API_KEY")
"""Stands for the next OpenAI-compatible provider somebody adds: whatever is asserted of every row is asserted of it."""
EVERY_ROW = [*ROWS.values(), DUMMY]

_started: dict[Any, FakeServer] = {}


def fake_server_of(row: Row) -> FakeServer:
    """The one for the row's language, started once, without what earlier tests left."""
    if row.dialect not in FAKE_SERVERS:
        name = getattr(row.dialect, "__name__", row.dialect)
        pytest.fail(
            f"Add a fake server for {name} to tests/fake_servers, and a line for it to FAKE_SERVERS in {__name__}."
        )
    fake_server = _started.get(row.dialect)
    if fake_server is None:
        fake_server = _started[row.dialect] = FAKE_SERVERS[row.dialect]()
    fake_server.clear()
    return fake_server


@dataclass
class Standing:
    """A provider as the service has it, with a fake server at its address."""

    row: Row
    fake_server: FakeServer
    providers: Providers
    client: Client

    @property
    def key(self) -> str | None:
        """What it is shown."""
        return KEY if self.row.key_variable else None

    @property
    def config(self) -> dict[str, Any]:
        """Fields of the simplest config."""
        model = MODELS.get(self.row.name, "some-model")
        return {"provider": self.row.name, "model": model, "endpoint": "chat", "max_tokens": 100}

    def chat(self, *messages: ChatMessage, config: Mapping[str, Any] | None = None, **fields: Any) -> ModelRequest:
        """A request with these messages, or a greeting."""
        given = ModelConfig.model_validate(self.config | dict(config or {}))
        return ModelRequest(given, list(messages) or [ChatMessage(role="user", content="Hello")], **fields)

    def prompt(self, **fields: Any) -> ModelRequest:
        """A request that goes on from a prompt."""
        return ModelRequest(ModelConfig.model_validate(self.config | {"endpoint": "complete"}), prompt="Once", **fields)

    def calls(self, request: ModelRequest) -> list[PreparedRequest]:
        """What answers the request."""
        return self.providers.calls(request, {})

    async def complete(self, request: ModelRequest) -> ModelResponse:
        """The answer of the first call."""
        return await self.client.complete(self.calls(request)[0])

    async def stream(self, request: ModelRequest) -> StreamAccumulator:
        """The same as it comes, joined."""
        accumulator = StreamAccumulator()
        async for chunk in self.chunks(request):
            accumulator.add(chunk)
        return accumulator

    def chunks(self, request: ModelRequest) -> AsyncIterator[ResponseDelta]:
        """The same as it comes."""
        return self.client.stream(self.calls(replace(request, stream=True))[0])


@asynccontextmanager
async def standing(row: Row, address: str | None = None) -> AsyncIterator[Standing]:
    """A row at its fake server, or at another address. Afterwards nothing may be open any more."""
    fake_server = fake_server_of(row)
    address = address or fake_server.url
    environment = {name: value.format(address=address) for name, value in ENVIRONMENTS.get(row.name, {}).items()}
    if row.key_variable:
        environment[row.key_variable] = KEY
    if row.base_url_variable:
        environment[row.base_url_variable] = address
    else:
        row = replace(row, base_url=address)
    client = Client(2.0, {})
    try:
        yield Standing(row, fake_server, Providers(environment, None, {row.name: row}), client)
    finally:
        await client.close()
        await _closed(fake_server)


async def _closed(fake_server: FakeServer) -> None:
    async with asyncio.timeout(10):
        while fake_server.open_connections or fake_server.streaming:  # noqa: ASYNC110 - the fake server's threads tell nobody
            await asyncio.sleep(0.002)
