"""AWS's own client library defines Bedrock's wire language: fake server and dialect must agree with it."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from botocore.validate import ParamValidator

from services.generation.models.request import ModelRequest, ModelResponse, StreamAccumulator
from services.generation.providers.base import PreparedRequest
from services.generation.providers.dialects import bedrock as dialect
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage, FunctionChoice, FunctionName, ResponseFormat, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, Unavailable, UpstreamFailed
from tests.fake_servers import bedrock as fake
from tests.fake_servers.server import FakeServer, RecordedRequest

MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
JPEG = "/9j/4AAQSkZJRgABAQAAAQABAAA="
"""The beginning of one."""
CALLS = [
    {"id": "tooluse_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "tooluse_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}},
]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "weather", "description": "Weather now", "parameters": SCHEMA, "strict": True}
ACCESS_KEY, SECRET, TOKEN = "AKIDEXAMPLE0000000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+=="


@pytest.fixture(scope="module")
def fake_server() -> FakeServer:
    return fake.start()


@pytest.fixture(autouse=True)
def nothing_said_yet(fake_server: FakeServer) -> None:
    fake_server.clear()


@pytest.fixture(scope="module")
def sdk(fake_server: FakeServer) -> Iterator[Any]:
    prepared = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=fake_server.url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        aws_session_token=TOKEN,
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield prepared
    prepared.close()


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    prepared = Client(5.0, {})
    yield prepared
    await prepared.close()


def request(messages: list[Any], **fields: Any) -> ModelRequest:
    """Return a request; `fields` may be of the config or of the request."""
    told = {"tool_choice", "response_format", "user", "stream"}
    config = ModelConfig.model_validate(
        {"provider": "bedrock", "model": MODEL, "endpoint": "chat"}
        | {key: value for key, value in fields.items() if key not in told}
    )
    return ModelRequest(
        config,
        [ChatMessage.model_validate(message) for message in messages],
        **{key: value for key, value in fields.items() if key in told},
    )


def call(
    fake_server: FakeServer, request_: ModelRequest, key: str = f"{ACCESS_KEY}:{SECRET}:{TOKEN}"
) -> PreparedRequest:
    return Providers({"BEDROCK_BASE_URL": fake_server.url}, None).prepare(request_, {"bedrock": key})[0]


# What is sent

HI: list[Any] = [{"role": "user", "content": "Hi"}]
TALK: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "user", "content": "Anybody?"},
    {"role": "assistant", "content": "Hello."},
    {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
    {"role": "user", "content": "How are you?"},
]
PICTURES: list[Any] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Compare"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{JPEG}"}},
        ],
    }
]
ASKED: list[Any] = [
    {"role": "user", "content": "Weather in both?"},
    {"role": "assistant", "content": "I look.", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "tooluse_1", "content": "wet"},
    {"role": "tool", "tool_call_id": "tooluse_2", "content": "dry"},
    {"role": "user", "content": "So?"},
]


def said(role: str, *blocks: Any) -> dict[str, Any]:
    return {"role": role, "content": [{"text": block} if isinstance(block, str) else block for block in blocks]}


def picture(format_: str, data: str) -> Any:
    return {"image": {"format": format_, "source": {"bytes": base64.b64decode(data)}}}


def looked_up(call_id: str, city: str) -> Any:
    return {"toolUse": {"toolUseId": call_id, "name": "weather", "input": {"city": city}}}


def found(call_id: str, what: str) -> Any:
    return {"toolResult": {"toolUseId": call_id, "content": [{"text": what}]}}


THEIR_HI = [said("user", "Hi")]
THEIR_TOOLS = [
    {
        "toolSpec": {
            "name": "weather",
            "description": "Weather now",
            "inputSchema": {"json": SCHEMA},
            "strict": True,
        }
    }
]
THEIR_ASKED = [
    said("user", "Weather in both?"),
    said("assistant", "I look.", looked_up("tooluse_1", "Oslo"), looked_up("tooluse_2", "Bergen")),
    said("user", found("tooluse_1", "wet"), found("tooluse_2", "dry"), "So?"),
]
NAMED = FunctionChoice(function=FunctionName(name="weather"))
TOOL_CHOICES: list[tuple[Any, dict[str, Any]]] = [
    ("auto", {"auto": {}}),
    ("required", {"any": {}}),
    (NAMED, {"tool": {"name": "weather"}}),
]
ANSWER = ResponseFormat(type="json_schema", json_schema={"name": "place", "strict": True, "schema": SCHEMA})
THEIR_ANSWER = {
    "textFormat": {
        "type": "json_schema",
        "structure": {"jsonSchema": {"name": "place", "schema": json.dumps(SCHEMA)}},
    }
}
WARM = {"temperature": 1.0}

CONVERSATIONS: dict[str, tuple[ModelRequest, dict[str, Any]]] = {
    "plain": (request(HI), {"messages": THEIR_HI, "inferenceConfig": WARM}),
    "sampling": (
        request(HI, max_tokens=9, temperature=0.2, top_p=0.5),
        {"messages": THEIR_HI, "inferenceConfig": {"maxTokens": 9, "temperature": 0.2, "topP": 0.5}},
    ),
    "system": (
        request(TALK),
        {
            "messages": [said("user", "Hi", "Anybody?"), said("assistant", "Hello."), said("user", "How are you?")],
            "system": [{"text": "Be brief.\n\nBe kind."}],
            "inferenceConfig": WARM,
        },
    ),
    "images": (
        request(PICTURES),
        {"messages": [said("user", "Compare", picture("png", PIXEL), picture("jpeg", JPEG))], "inferenceConfig": WARM},
    ),
    "tools": (
        request(HI, tools=[TOOL]),
        {"messages": THEIR_HI, "inferenceConfig": WARM, "toolConfig": {"tools": THEIR_TOOLS}},
    ),
    "tool results": (
        request(ASKED, tools=[TOOL]),
        {"messages": THEIR_ASKED, "inferenceConfig": WARM, "toolConfig": {"tools": THEIR_TOOLS}},
    ),
    **{
        f"tool choice {next(iter(theirs))}": (
            request(HI, tools=[TOOL], tool_choice=ours),
            {
                "messages": THEIR_HI,
                "inferenceConfig": WARM,
                "toolConfig": {"tools": THEIR_TOOLS, "toolChoice": theirs},
            },
        )
        for ours, theirs in TOOL_CHOICES
    },
    "tool choice none": (
        request(HI, tools=[TOOL], tool_choice="none"),
        {"messages": THEIR_HI, "inferenceConfig": WARM},
    ),
    "stop": (
        request(HI, stop="END"),
        {"messages": THEIR_HI, "inferenceConfig": {**WARM, "stopSequences": ["END"]}},
    ),
    "user": (
        request(HI, user="u-1@example.com"),
        {"messages": THEIR_HI, "inferenceConfig": WARM, "requestMetadata": {"user": "u-1@example.com"}},
    ),
    "schema": (
        request(HI, response_format=ANSWER),
        {"messages": THEIR_HI, "inferenceConfig": WARM, "outputConfig": THEIR_ANSWER},
    ),
    "other": (
        request(HI, other={"top_k": 5, "performanceConfig": {"latency": "optimized"}, "messages": []}),
        {
            "messages": THEIR_HI,
            "inferenceConfig": WARM,
            "additionalModelRequestFields": {"top_k": 5},
            "performanceConfig": {"latency": "optimized"},
        },
    ),
    "profile": (
        request(HI, model=PROFILE),
        {"messages": THEIR_HI, "inferenceConfig": WARM, "modelId": PROFILE},
    ),
    "stream": (request(HI, stream=True), {"messages": THEIR_HI, "inferenceConfig": WARM}),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_we_send_what_the_library_sends(sdk: Any, fake_server: FakeServer, client: Client, name: str) -> None:
    request_, theirs = CONVERSATIONS[name]
    if request_.stream:
        sdk.converse_stream(**{"modelId": MODEL} | theirs)["stream"].close()
    else:
        sdk.converse(**{"modelId": MODEL} | theirs)
    prepared = call(fake_server, request_)
    if request_.stream:
        [chunk async for chunk in client.stream(prepared)]
    else:
        await client.complete(prepared)
    library, ours = fake_server.requests
    assert (ours.body, ours.path, ours.key) == (library.body, library.path, library.key)
    assert signed(ours) == signed(library)


def signed(sent: RecordedRequest) -> tuple[str, str, str]:
    """Return signed headers and scope of a signature, without its time."""
    shown = sent.headers["authorization"]
    scope = re.sub(r"/\d{8}/", "/<day>/", shown.split("Credential=")[1].split(",")[0])
    covered = set(shown.split("SignedHeaders=")[1].split(",")[0].split(";"))
    # The library also signs what it tells of itself.
    known = covered - {"amz-sdk-invocation-id", "amz-sdk-request", "accept"}
    return scope, " ".join(sorted(known)), sent.headers["x-amz-security-token"]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_we_send_is_of_the_librarys_types(sdk: Any, name: str) -> None:
    request_, _ = CONVERSATIONS[name]
    shape = sdk.meta.service_model.operation_model("ConverseStream" if request_.stream else "Converse").input_shape
    report = ParamValidator().validate(dialect.body(request_) | {"modelId": request_.config.model}, shape)
    assert report.generate_report() == ""


def test_the_librarys_types_refuse_another_body(sdk: Any) -> None:
    shape = sdk.meta.service_model.operation_model("Converse").input_shape
    report = ParamValidator().validate({"modelId": MODEL, "max_tokens": 9}, shape)
    assert "max_tokens" in report.generate_report()


async def test_the_signature_is_the_librarys(fake_server: FakeServer, client: Client) -> None:
    """Computed by hand as https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    says (2026-11)."""
    prepared = call(fake_server, request([{"role": "user", "content": "Blåbær"}], model=PROFILE))
    await client.complete(prepared)
    headers = fake_server.last.headers
    names = ["content-type", "host", "x-amz-date", "x-amz-security-token"]
    path = fake_server.last.path.replace("%", "%25")
    lines = ["POST", path, "", *(f"{name}:{headers[name]}" for name in names), "", ";".join(names)]
    canonical = "\n".join([*lines, hashlib.sha256(prepared.content).hexdigest()])
    day = headers["x-amz-date"][:8]
    scope = f"{day}/us-east-1/bedrock/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for part in (day, "us-east-1", "bedrock", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    told = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest])
    assert headers["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={hmac.digest(key, told.encode(), 'sha256').hex()}"
    )


async def test_an_api_key_is_a_bearer_token(fake_server: FakeServer, client: Client) -> None:
    await client.complete(call(fake_server, request(HI), "ABSKexample"))
    assert fake_server.last.headers["authorization"] == "Bearer ABSKexample"
    assert "x-amz-date" not in fake_server.last.headers


# What comes back

REPLIES: dict[str, dict[str, Any]] = {
    "text": {"content": "It rains  in Oslo.\n"},
    "cut short": {"content": "It", "finish_reason": "length"},
    "tool calls": {"content": "I look.", "tool_calls": CALLS},
    "only a tool call": {"content": None, "tool_calls": CALLS[:1]},
    "without arguments": {
        "content": None,
        "tool_calls": [{"id": "tooluse_3", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
    },
}
OURS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_call"}


def same(ours: ModelResponse, theirs: dict[str, Any], told: dict[str, Any]) -> None:
    """Our client and the library read the same, which is what the fake server was configured with."""
    blocks, usage = theirs["content"], theirs["usage"]
    (choice,) = ours.choices
    assert choice.text == (told["content"] or "")
    assert [call.model_dump() for call in choice.tool_calls or ()] == told.get("tool_calls", [])
    assert choice.text == "".join(block.get("text", "") for block in blocks)
    calls = [block["toolUse"] for block in blocks if "toolUse" in block]
    assert [
        {"toolUseId": call.id, "name": call.function.name, "input": json.loads(call.function.arguments or "")}
        for call in choice.tool_calls or ()
    ] == calls
    assert choice.finish_reason == OURS[theirs["stopReason"]]
    assert ours.usage == Usage(
        prompt_tokens=usage["inputTokens"],
        generation_tokens=usage["outputTokens"],
        total_tokens=usage["totalTokens"],
    )


@pytest.mark.parametrize("name", REPLIES)
async def test_a_response(sdk: Any, fake_server: FakeServer, client: Client, name: str) -> None:
    fake_server.reply(**REPLIES[name])
    theirs = sdk.converse(modelId=MODEL, messages=THEIR_HI)
    fake_server.reply(**REPLIES[name])
    ours = await client.complete(call(fake_server, request(HI)))
    same(ours, theirs | theirs["output"]["message"], REPLIES[name])


@pytest.mark.parametrize("name", REPLIES)
async def test_a_streamed_response(sdk: Any, fake_server: FakeServer, client: Client, name: str) -> None:
    fake_server.reply(**REPLIES[name])
    blocks: dict[int, Any] = {}
    told: dict[str, Any] = {}
    for event in sdk.converse_stream(modelId=MODEL, messages=THEIR_HI)["stream"]:
        ((kind, payload),) = event.items()
        if kind == "contentBlockStart":
            blocks[payload["contentBlockIndex"]] = {"toolUse": payload["start"]["toolUse"] | {"input": ""}}
        elif kind == "contentBlockDelta" and "text" in payload["delta"]:
            block = blocks.setdefault(payload["contentBlockIndex"], {"text": ""})
            block["text"] += payload["delta"]["text"]
        elif kind == "contentBlockDelta":
            blocks[payload["contentBlockIndex"]]["toolUse"]["input"] += payload["delta"]["toolUse"]["input"]
        else:
            told |= payload
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    fake_server.reply(**REPLIES[name])
    request_ = call(fake_server, request(HI, stream=True))
    accumulator = StreamAccumulator()
    async for chunk in client.stream(request_):
        accumulator.add(chunk)
    read = dialect.read_response(request_.request, dialect.write_response(request_.request, accumulator))
    assert read.choices == [accumulator.choice()]
    same(read, told | {"content": list(blocks.values())}, REPLIES[name])


# What goes wrong


@pytest.mark.parametrize(
    ("status", "kind", "ours"),
    [
        (400, "ValidationException", Invalid),
        (403, "AccessDeniedException", Unauthenticated),
        (404, "ResourceNotFoundException", Invalid),
        (408, "ModelTimeoutException", UpstreamFailed),
        (424, "ModelErrorException", UpstreamFailed),
        (429, "ThrottlingException", RateLimited),
        (500, "InternalServerException", UpstreamFailed),
        (503, "ServiceUnavailableException", Unavailable),
    ],
)
async def test_an_error_status(
    sdk: Any, fake_server: FakeServer, client: Client, status: int, kind: str, ours: type[Problem]
) -> None:
    fields = {"status": status, "error": {"message": "Malformed input request"}}
    fake_server.reply(**fields)
    with pytest.raises(ClientError, match="Malformed input request") as theirs:
        sdk.converse(modelId=MODEL, messages=THEIR_HI)
    assert theirs.value.response["Error"]["Code"] == kind
    fake_server.reply(**fields)
    with pytest.raises(ours) as caught:
        await client.complete(call(fake_server, request(HI)))
    assert (caught.value.message, caught.value.origin) == ("Malformed input request", "AWS Bedrock")


async def test_a_stream_that_fails_in_the_middle(sdk: Any, fake_server: FakeServer, client: Client) -> None:
    fake_server.reply(stream_error="Too many tokens")
    stream = sdk.converse_stream(modelId=MODEL, messages=THEIR_HI)["stream"]
    with closing(stream), pytest.raises(EventStreamError, match="Too many tokens"):
        list(stream)
    fake_server.reply(stream_error="Too many tokens")
    with pytest.raises(UpstreamFailed, match="Too many tokens"):
        [chunk async for chunk in client.stream(call(fake_server, request(HI, stream=True)))]


BROKEN = pytest.mark.parametrize("fields", [{"break_after_chunks": 3}, {"garbage": True}])


@BROKEN
async def test_an_invalid_response(fake_server: FakeServer, client: Client, fields: dict[str, Any]) -> None:
    fake_server.reply(**fields)
    with pytest.raises(UpstreamFailed, match="AWS Bedrock"):
        await client.complete(call(fake_server, request(HI)))


@BROKEN
async def test_an_invalid_stream(fake_server: FakeServer, client: Client, fields: dict[str, Any]) -> None:
    fake_server.reply(**fields)
    with pytest.raises(UpstreamFailed, match="AWS Bedrock"):
        [chunk async for chunk in client.stream(call(fake_server, request(HI, stream=True)))]
