"""Our side of a conversation with a fake server: the call a request becomes, and the answer `Client` reads."""

from typing import Any

from services.generation.models.request import Choice, ModelRequest, StreamAccumulator
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage, FunctionChoice, FunctionName, ResponseFormat, Usage
from shared.contracts.projects import ModelConfig

CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]
"""Two at once, as the fake servers are told of them."""
USAGE = Usage(prompt_tokens=12, generation_tokens=5, total_tokens=17)
"""What the fake servers claim unless told otherwise."""


def request(config: dict[str, Any], messages: list[dict[str, Any]] | None, **fields: Any) -> ModelRequest:
    """A chat; without messages `prompt` is one of the fields."""
    given = None if messages is None else [ChatMessage.model_validate(message) for message in messages]
    return ModelRequest(ModelConfig.model_validate({"endpoint": "chat"} | config), messages=given, **fields)


def call(environment: dict[str, str], asked: ModelRequest) -> PreparedRequest:
    """What is sent for it."""
    (made,) = Providers(environment, None).prepare(asked, {})
    return made


async def whole(made: PreparedRequest) -> tuple[Choice, Usage | None]:
    """The answer in one piece."""
    client = Client(5, {})
    try:
        completion = await client.complete(made)
    finally:
        await client.close()
    (choice,) = completion.choices
    return choice, completion.usage


async def streamed(made: PreparedRequest) -> StreamAccumulator:
    """The answer as it came, joined."""
    client, accumulator = Client(5, {}), StreamAccumulator()
    try:
        async for chunk in client.stream(made):
            accumulator.add(chunk)
    finally:
        await client.close()
    return accumulator


def read_back(made: PreparedRequest, accumulator: StreamAccumulator) -> tuple[Choice, Usage | None]:
    """A stream written down whole and read as if it had come so."""
    dialect = made.dialect
    completion = dialect.read_response(made.request, dialect.write_response(made.request, accumulator))
    (choice,) = completion.choices
    return choice, completion.usage


def choice(name: str) -> FunctionChoice:
    """`tool_choice` of one function."""
    return FunctionChoice(function=FunctionName(name=name))


def json_format(schema: dict[str, Any] | None = None) -> ResponseFormat:
    """JSON mode, or an answer by a schema."""
    if schema is None:
        return ResponseFormat(type="json_object")
    return ResponseFormat(type="json_schema", json_schema={"name": "place", "schema": schema})
