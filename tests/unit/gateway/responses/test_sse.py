"""Server-sent events as every client can read them, and streams that break off: by a problem, or by their guard."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from services.gateway.responses import sse
from services.gateway.responses.sse import encode_event, event_stream_response
from shared.errors import Unauthenticated, UpstreamFailed


class Payload(BaseModel):
    """Something with text."""

    text: str


@given(st.text() | st.text(alphabet="a\u0085\u2028\u2029\x0b\x0c\x1c\x1d\x1e\r\n ☂😀"))
def test_an_event_is_one_line_by_any_rule_and_means_the_same(text: str) -> None:
    encoded = encode_event(Payload(text=text))
    line, *rest = encoded.decode().splitlines()
    assert rest == [""]
    assert json.loads(line.removeprefix("data: ")) == {"text": text}


@pytest.mark.parametrize(
    ("separator", "escape"), [("\u0085", b"\\u0085"), ("\u2028", b"\\u2028"), ("\u2029", b"\\u2029")]
)
def test_separators_of_lines_are_escaped_and_other_characters_are_not(separator: str, escape: bytes) -> None:
    assert encode_event(Payload(text=f"☂{separator}é")) == 'data: {"text":"☂'.encode() + escape + 'é"}\n\n'.encode()


async def test_a_stream_that_a_problem_ends_is_one_line_in_the_log_and_has_no_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def events() -> AsyncIterator[BaseModel]:
        yield Payload(text="a")
        raise UpstreamFailed("what was said", origin="OpenAI")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    response = await event_stream_response(events(), nullcontext)
    with caplog.at_level(logging.INFO):
        await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert [message.get("more_body") for message in sent if message["type"] == "http.response.body"] == [True]
    (record,) = caplog.records
    assert (record.getMessage(), record.exc_info) == ("a stream broke off: OpenAI: upstream_error", None)


class Event(BaseModel):
    number: int


class Events:
    """Events of which the one after `number` never comes."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.closed = False

    async def __call__(self) -> AsyncIterator[BaseModel]:
        try:
            for number in range(self._number):
                yield Event(number=number)
            await asyncio.sleep(60)
        finally:
            self.closed = True


@asynccontextmanager
async def guard() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(0.1):
            yield
    except TimeoutError:
        raise Unauthenticated("revoked") from None


async def test_a_guard_ends_the_wait_for_the_first_event() -> None:
    events = Events(0)
    with pytest.raises(Unauthenticated):
        await sse.event_stream_response(events(), guard)
    assert events.closed


@pytest.mark.parametrize("reads", [True, False])
async def test_a_guard_ends_a_response_that_is_sent(reads: bool) -> None:
    events = Events(3)
    response = await sse.event_stream_response(events(), guard)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3 and not reads:
            await asyncio.sleep(60)

    async def receive() -> Any:
        await asyncio.sleep(60)

    await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert events.closed
    assert len(sent) == (4 if reads else 3)
    assert sent[-1]["more_body"], "it is broken off, and does not end as if it were whole"
