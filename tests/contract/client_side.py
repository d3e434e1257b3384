"""Everloop's side of a call to a fake server: the prepared request, and the response `Client` reads."""

from typing import Any

from services.generation.models.request import Choice, ModelRequest, StreamAccumulator
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage, FunctionChoice, FunctionName, ResponseFormat, Usage
from shared.contracts.generation.projects import ModelConfig

CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]
"""Two tool calls, in the form the fake servers are configured with."""
USAGE = Usage(prompt_tokens=12, generation_tokens=5, total_tokens=17)
"""Usage that the fake servers send by default."""


def request(config: dict[str, Any], messages: list[dict[str, Any]] | None, **fields: Any) -> ModelRequest:
    """Return a chat request, or without messages a completion with `prompt` among the fields."""
    parsed = None if messages is None else [ChatMessage.model_validate(message) for message in messages]
    return ModelRequest(ModelConfig.model_validate({"endpoint": "chat"} | config), messages=parsed, **fields)


def call(environment: dict[str, str], request_: ModelRequest) -> PreparedRequest:
    """Prepare a request for one sample."""
    (prepared,) = Providers(environment, None).prepare(request_, {})
    return prepared


async def complete(prepared: PreparedRequest) -> tuple[Choice, Usage | None]:
    """Send and return choice and usage of the response."""
    client = Client(5, {})
    try:
        completion = await client.complete(prepared)
    finally:
        await client.close()
    (choice,) = completion.choices
    return choice, completion.usage


async def stream(prepared: PreparedRequest) -> StreamAccumulator:
    """Send and accumulate the events of the stream."""
    client, accumulator = Client(5, {}), StreamAccumulator()
    try:
        async for chunk in client.stream(prepared):
            accumulator.add(chunk)
    finally:
        await client.close()
    return accumulator


def read_back(prepared: PreparedRequest, accumulator: StreamAccumulator) -> tuple[Choice, Usage | None]:
    """Write an accumulated stream as a response, and read that."""
    dialect = prepared.dialect
    completion = dialect.read_response(prepared.request, dialect.write_response(prepared.request, accumulator))
    (choice,) = completion.choices
    return choice, completion.usage


def choice(name: str) -> FunctionChoice:
    """Return a `tool_choice` of one function."""
    return FunctionChoice(function=FunctionName(name=name))


def json_format(schema: dict[str, Any] | None = None) -> ResponseFormat:
    """Return the format of JSON mode, or of a schema."""
    if schema is None:
        return ResponseFormat(type="json_object")
    return ResponseFormat(type="json_schema", json_schema={"name": "place", "schema": schema})
