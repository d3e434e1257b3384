"""Keys, addresses, signatures and streams of AWS."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import ModelRequest
from services.generation.providers.base import PreparedRequest
from services.generation.providers.dialects import aws
from services.generation.providers.requests import Providers
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from tests.fake_servers.bedrock import event, exception, framed

PAIR = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "se/cr+et"}


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({}, None),
        (PAIR, "AKIA:se/cr+et"),
        (PAIR | {"AWS_SESSION_TOKEN": "to=="}, "AKIA:se/cr+et:to=="),
        (PAIR | {"AWS_BEARER_TOKEN_BEDROCK": "ABSK"}, "ABSK"),
        (PAIR | {"AWS_BEARER_TOKEN_BEDROCK": ""}, "AKIA:se/cr+et"),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, None),
    ],
)
def test_keys_of_the_environment(environment: dict[str, str], key: str | None) -> None:
    assert aws.find_key(environment) == key


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "https://bedrock-runtime.eu-west-1.amazonaws.com"),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "ap-south-1"},
         "https://bedrock-runtime.ap-south-1.amazonaws.com"),
        ({"AWS_REGION": "eu-west-1", "BEDROCK_BASE_URL": "http://proxy"}, "http://proxy"),
    ],
)  # fmt: skip
def test_the_base_url_depends_on_the_region(environment: dict[str, str], address: str) -> None:
    assert aws.find_base_url(environment, {}) == address


def call(key: str, base_url: str = "http://proxy") -> PreparedRequest:
    request = ModelRequest(ModelConfig(provider="bedrock", model="m"), [ChatMessage(role="user", content="hi")])
    return Providers({"BEDROCK_BASE_URL": base_url}, None).prepare(request, {"bedrock": key})[0]


@pytest.mark.parametrize(
    ("base_url", "region"),
    [
        ("https://bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://vpce-0a-1b.bedrock-runtime.ap-south-1.vpce.amazonaws.com", "ap-south-1"),
        ("http://proxy", "us-east-1"),
    ],
)
def test_a_signature_is_for_the_region_in_the_url(base_url: str, region: str) -> None:
    shown = aws.sign(call("AKIA:secret", base_url))
    assert re.match(
        rf"AWS4-HMAC-SHA256 Credential=AKIA/\d{{8}}/{region}/bedrock/aws4_request, ", shown["Authorization"]
    )
    assert set(shown) == {"Authorization", "X-Amz-Date"}


def test_a_session_token_is_sent_and_the_secret_is_not() -> None:
    shown = aws.sign(call("AKIA:secret:to:ken"))
    assert shown["X-Amz-Security-Token"] == "to:ken"
    assert "x-amz-security-token" in shown["Authorization"]
    assert "secret" not in " ".join(shown.values())


def test_a_signature_covers_the_content() -> None:
    signatures = {aws.sign(replace(call("A:s"), content=content))["Authorization"] for content in (b"1", b"2")}
    assert len(signatures) == 2


def test_an_api_key_signs_nothing() -> None:
    assert aws.sign(call("ABSK")) == {}


async def framed_events(*pieces: bytes) -> list[bytes]:
    async def received() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [event async for event in aws.event_stream(received())]


EVENTS = event("messageStop", {"stopReason": "end_turn"}) + event("metadata", {"p": "å"})


@given(st.lists(st.integers(0, len(EVENTS)), max_size=8))
async def test_a_stream_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(EVENTS)]
    pieces = [EVENTS[start:end] for start, end in pairwise(edges)]
    assert [json.loads(one) for one in await framed_events(*pieces)] == [
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"p": "å"}},
    ]


async def test_exceptions_and_errors_in_a_stream_become_events() -> None:
    told = exception("throttlingException", {"message": "slow"})
    bare = framed({":message-type": "error", ":error-code": "InternalError", ":error-message": "it broke"}, b"")
    assert [json.loads(one)["exception"] for one in await framed_events(told, bare)] == [
        {"type": "throttlingException", "payload": '{"message": "slow"}'},
        {"type": "InternalError", "payload": "it broke"},
    ]


@pytest.mark.parametrize("noise", [b"data: <html>no</html>", EVENTS[:-1] + b"x", EVENTS[1:]])
async def test_a_body_that_is_no_event_stream_raises(noise: bytes) -> None:
    with pytest.raises(ValueError, match=r"no.* message|without end|not a message"):
        await framed_events(noise)
