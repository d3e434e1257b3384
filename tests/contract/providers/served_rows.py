"""Every row of the registry, each with the stand-in that speaks its language."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.generation.models.request import Chunk, Completion, CompletionRequest, Joined
from services.generation.providers.base import Call
from services.generation.providers.dialects import anthropic, bedrock, cohere, gemini, openai, replicate
from services.generation.providers.registry import ROWS, Row
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
from tests.fake_servers import anthropic as anthropic_standin
from tests.fake_servers import bedrock as bedrock_standin
from tests.fake_servers import cohere as cohere_standin
from tests.fake_servers import gemini as gemini_standin
from tests.fake_servers import openai as openai_standin
from tests.fake_servers import replicate as replicate_standin
from tests.fake_servers.server import StandIn

STAND_INS: dict[Any, Callable[[], StandIn]] = {
    anthropic: anthropic_standin.start,
    bedrock: bedrock_standin.start,
    cohere: cohere_standin.start,
    gemini: gemini_standin.start,
    openai: openai_standin.start,
    replicate: replicate_standin.start,
}
"""By dialect. A row on a dialect that is here needs nothing else to be tested."""
MODELS = {"openai": "gpt-4o", "replicate": "meta/meta-llama-3-70b-instruct"}
"""By row, where not just any name will do."""
ENVIRONMENTS: dict[str, dict[str, str]] = {}
"""By row: what it needs to know besides its address and its key. `{address}` is the stand-in's."""
KEY = "key-that-nobody-may-see"

DUMMY = Row(name="dummy", title="Dummy", dialect=openai, base_url="http://127.0.0.1:1", key_variable="DUMMY_API_KEY")
"""Stands for the next OpenAI-compatible provider somebody adds: whatever is asserted of every row is asserted of it."""
EVERY_ROW = [*ROWS.values(), DUMMY]

_started: dict[Any, StandIn] = {}


def stand_in(row: Row) -> StandIn:
    """The one for the row's language, started once, without what earlier tests left."""
    if row.dialect not in STAND_INS:
        name = getattr(row.dialect, "__name__", row.dialect)
        pytest.fail(f"Add a stand-in for {name} to tests/standins, and a line for it to STAND_INS in {__name__}.")
    standin = _started.setdefault(row.dialect, None) or STAND_INS[row.dialect]()
    _started[row.dialect] = standin
    standin.clear()
    return standin


@dataclass
class Standing:
    """A provider as the service has it, with a stand-in at its address."""

    row: Row
    standin: StandIn
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

    def chat(self, *messages: ChatMessage, config: Mapping[str, Any] | None = None, **fields: Any) -> CompletionRequest:
        """A request with these messages, or a greeting."""
        given = ModelConfig.model_validate(self.config | dict(config or {}))
        return CompletionRequest(given, list(messages) or [ChatMessage(role="user", content="Hello")], **fields)

    def prompt(self, **fields: Any) -> CompletionRequest:
        """A request that goes on from a prompt."""
        return CompletionRequest(
            ModelConfig.model_validate(self.config | {"endpoint": "complete"}), prompt="Once", **fields
        )

    def calls(self, request: CompletionRequest) -> list[Call]:
        """What answers the request."""
        return self.providers.calls(request, {})

    async def complete(self, request: CompletionRequest) -> Completion:
        """The answer of the first call."""
        return await self.client.complete(self.calls(request)[0])

    async def stream(self, request: CompletionRequest) -> Joined:
        """The same as it comes, joined."""
        joined = Joined()
        async for chunk in self.chunks(request):
            joined.add(chunk)
        return joined

    def chunks(self, request: CompletionRequest) -> AsyncIterator[Chunk]:
        """The same as it comes."""
        return self.client.stream(self.calls(replace(request, stream=True))[0])


@asynccontextmanager
async def standing(row: Row, address: str | None = None) -> AsyncIterator[Standing]:
    """A row at its stand-in, or at another address. Afterwards nothing may be open any more."""
    standin = stand_in(row)
    address = address or standin.url
    environment = {name: value.format(address=address) for name, value in ENVIRONMENTS.get(row.name, {}).items()}
    if row.key_variable:
        environment[row.key_variable] = KEY
    if row.base_url_variable:
        environment[row.base_url_variable] = address
    else:
        row = replace(row, base_url=address)
    client = Client(2.0, {})
    try:
        yield Standing(row, standin, Providers(environment, None, {row.name: row}), client)
    finally:
        await client.close()
        await _closed(standin)


async def _closed(standin: StandIn) -> None:
    async with asyncio.timeout(10):
        while standin.open_connections or standin.streaming:  # noqa: ASYNC110 - the stand-in's threads tell nobody
            await asyncio.sleep(0.002)
