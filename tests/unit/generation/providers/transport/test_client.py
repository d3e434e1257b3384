"""Sending, reading and failing, with a provider that is a function."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.generation.models.request import Json, ModelRequest, ResponseDelta
from services.generation.providers.base import PreparedRequest, StubResponse
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
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


async def test_what_is_sent_is_the_body() -> None:
    seen: list[Json] = []

    def answer(sent: Json) -> StubResponse:
        seen.append(sent)
        return StubResponse(payload={"choices": [{"message": {"content": "yes"}}]})

    completion = await client(answer).complete(call())
    assert completion.choices[0].text == "yes"
    assert seen == [call().body]


@pytest.mark.parametrize("payload", [{}, {"choices": None}, {"choices": [{"text": "not chat"}]}])
async def test_a_reply_that_cannot_be_read(payload: Json) -> None:
    with pytest.raises(UpstreamFailed, match="OpenAI sent an answer that cannot be read") as caught:
        await client(StubResponse(payload=payload)).complete(call())
    assert caught.value.origin == "OpenAI"


async def test_a_reply_that_is_cut_off() -> None:
    with pytest.raises(UpstreamFailed):
        await client(StubResponse(payload={"choices": [{"message": {"content": "yes"}}]}, truncated=True)).complete(
            call()
        )


async def test_fewer_samples_than_asked_for() -> None:
    with pytest.raises(UpstreamFailed, match="1 of the 2"):
        await client(StubResponse(payload={"choices": [{"message": {"content": "yes"}}]})).complete(call(samples=2))


async def test_a_refusal_keeps_the_key_to_itself() -> None:
    refusal = StubResponse(status=400, payload={"error": {"message": "bad key sk-secret"}})
    with pytest.raises(Invalid, match=r"^bad key \*\*\*$"):
        await client(refusal).complete(call())
    with pytest.raises(Invalid, match=r"^bad key \*\*\*$"):
        await streamed(refusal)


async def test_an_error_under_a_status_that_says_all_is_well() -> None:
    with pytest.raises(UpstreamFailed, match=r"^OpenAI could not answer: no luck with \*\*\*$"):
        await client(StubResponse(payload={"error": {"message": "no luck with sk-secret"}})).complete(call())


async def test_a_stream() -> None:
    chunks = await streamed(StubResponse(events=[event("a"), event("b", "stop")]))
    assert [(chunk.text, chunk.finish_reason) for chunk in chunks] == [("a", None), ("b", "stop")]


async def test_a_stream_that_ends_without_a_reason_just_ended() -> None:
    assert (await streamed(StubResponse(events=[event("a")])))[-1] == ResponseDelta(finish_reason="stop")


async def test_a_stream_that_breaks_off_is_not_an_answer() -> None:
    with pytest.raises(UpstreamFailed, match="broke off"):
        await streamed(StubResponse(events=[event("a")], truncated=True))


async def test_a_stream_that_fails_in_the_middle_says_why() -> None:
    with pytest.raises(UpstreamFailed, match="overloaded"):
        await streamed(StubResponse(events=[event("a"), {"error": {"message": "overloaded"}}]))


async def test_an_event_that_cannot_be_read() -> None:
    with pytest.raises(UpstreamFailed, match="event"):
        await streamed(StubResponse(events=[{"choices": [{"delta": {"tool_calls": [7]}}]}]))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "ftp://x/v1", "http://", "nonsense"])
async def test_an_address_where_nobody_is(url: str) -> None:
    away = Client(1.0, {})
    try:
        with pytest.raises(Unavailable, match="OpenAI cannot be reached"):
            await away.complete(replace(call(), url=url))
    finally:
        await away.close()


async def test_no_error_tells_the_address_or_the_key() -> None:
    away = Client(1.0, {})
    with pytest.raises(Problem) as caught:
        await away.complete(replace(call(), url="http://127.0.0.1:1/secret-path"))
    await away.close()
    assert "secret" not in str(caught.value)
