"""Requests, responses and errors of the client, with an in-process provider."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from services.generation.models.request import Json, ModelRequest, ResponseDelta
from services.generation.providers.base import PreparedRequest, StubResponse
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Problem, Unavailable, UpstreamFailed

ADDRESS = "http://inside.test"


def call(*, stream: bool = False, samples: int = 1) -> PreparedRequest:
    config = ModelConfig(model="gpt-4", endpoint="chat")
    request = ModelRequest(config, [ChatMessage(role="user", content="hi")], stream=stream, samples=samples)
    return Providers({"OPENAI_BASE_URL": ADDRESS, "OPENAI_API_KEY": "sk-secret"}, None).prepare(request, {})[0]


def client(answer: Callable[[Json], StubResponse] | StubResponse) -> Client:
    return Client(1.0, {ADDRESS: (lambda _: answer) if isinstance(answer, StubResponse) else answer})


async def streamed(answer: StubResponse) -> list[ResponseDelta]:
    return [chunk async for chunk in client(answer).stream(call(stream=True))]


def event(text: str, reason: str | None = None) -> Json:
    return {"choices": [{"delta": {"content": text}, "finish_reason": reason}]}


async def test_the_body_is_sent() -> None:
    seen: list[Json] = []

    def answer(sent: Json) -> StubResponse:
        seen.append(sent)
        return StubResponse(payload={"choices": [{"message": {"content": "yes"}}]})

    completion = await client(answer).complete(call())
    assert completion.choices[0].text == "yes"
    assert seen == [call().body]


@pytest.mark.parametrize("payload", [{}, {"choices": None}, {"choices": [{}]}])
async def test_json_of_another_form_is_an_invalid_response(payload: Json) -> None:
    with pytest.raises(UpstreamFailed, match="OpenAI sent an answer that cannot be read") as caught:
        await client(StubResponse(payload=payload)).complete(call())
    assert caught.value.origin == "OpenAI"


async def test_a_truncated_body_is_an_invalid_response() -> None:
    with pytest.raises(UpstreamFailed):
        await client(StubResponse(payload={"choices": [{"message": {"content": "yes"}}]}, truncated=True)).complete(
            call()
        )


async def test_fewer_samples_than_requested_are_returned() -> None:
    payload = {"choices": [{"message": {"content": "yes"}}]}
    read = await client(StubResponse(payload=payload)).complete(call(samples=2))
    assert [choice.text for choice in read.choices] == ["yes"]


async def test_the_key_is_masked_in_an_error() -> None:
    refusal = StubResponse(status=400, payload={"error": {"message": "bad key sk-secret"}})
    with pytest.raises(Invalid, match=r"^bad key \*\*\*$"):
        await client(refusal).complete(call())
    with pytest.raises(Invalid, match=r"^bad key \*\*\*$"):
        await streamed(refusal)


async def test_an_error_with_status_200_is_raised() -> None:
    with pytest.raises(UpstreamFailed, match=r"^no luck with \*\*\*$"):
        await client(StubResponse(payload={"error": {"message": "no luck with sk-secret"}})).complete(call())


async def test_a_stream() -> None:
    chunks = await streamed(StubResponse(events=[event("a"), event("b", "stop")]))
    assert [(chunk.text, chunk.finish_reason) for chunk in chunks] == [("a", None), ("b", "stop")]


async def test_a_stream_that_ends_without_a_finish_reason_has_stop() -> None:
    assert (await streamed(StubResponse(events=[event("a")])))[-1] == ResponseDelta(finish_reason="stop")


async def test_a_stream_without_its_end_is_an_invalid_response() -> None:
    with pytest.raises(UpstreamFailed, match="broke off"):
        await streamed(StubResponse(events=[event("a")], truncated=True))


async def test_an_error_event_is_raised_with_its_message() -> None:
    with pytest.raises(UpstreamFailed, match="overloaded"):
        await streamed(StubResponse(events=[event("a"), {"error": {"message": "overloaded"}}]))


@pytest.mark.parametrize("odd", [7, None, [], "ping", {}, {"choices": [{"delta": {"tool_calls": [7]}}]}])
async def test_an_event_of_another_form_adds_nothing(odd: Any) -> None:
    deltas = await streamed(StubResponse(events=[event("a"), odd, event("b", "stop")]))
    assert "".join(delta.text for delta in deltas) == "ab"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "ftp://x/v1", "http://", "nonsense"])
async def test_an_unreachable_url_is_unavailable(url: str) -> None:
    client_ = Client(1.0, {})
    try:
        with pytest.raises(Unavailable, match="OpenAI cannot be reached"):
            await client_.complete(replace(call(), url=url))
    finally:
        await client_.close()


async def test_errors_contain_neither_url_nor_key() -> None:
    client_ = Client(1.0, {})
    with pytest.raises(Problem) as caught:
        await client_.complete(replace(call(), url="http://127.0.0.1:1/secret-path"))
    await client_.close()
    assert "secret" not in str(caught.value)
