"""Streamed bodies are split into the same events whatever pieces they arrive in."""

import time
from binascii import crc32
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.providers.dialects import aws, replicate
from services.generation.providers.transport import stream_framing
from tests.fake_servers.bedrock import framed

Framing = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


async def pieces(raw: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


@given(st.lists(st.binary()), st.integers(1, 9))
async def test_lines_are_split_whatever_the_pieces(given_lines: list[bytes], size: int) -> None:
    raw = b"\n".join(given_lines)
    expected = raw.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line async for line in stream_framing.lines(pieces(raw, size))] == expected


async def test_events_without_data_are_skipped() -> None:
    raw = b": hello\nevent: x\ndata:\ndata: \r\ndata: {}\r\n\ndata: [DONE]"
    assert [data async for data in stream_framing.sse_data(pieces(raw, 3))] == [b"{}", b"[DONE]"]


@pytest.mark.parametrize("framing", [stream_framing.sse_data, replicate.sse_events])
async def test_the_length_of_a_line_is_limited(framing: Framing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_framing, "MAX_EVENT_BYTES", 100)
    with pytest.raises(ValueError, match="a line of more than"):
        [event async for event in framing(pieces(b"data: " + b"x" * 200, 7))]


async def test_the_length_of_a_message_is_limited() -> None:
    checksum = crc32(b"\x7f\xff\xff\xff" + bytes(4)).to_bytes(4, "big")
    with pytest.raises(ValueError, match="a message of more than"):
        [event async for event in aws.event_stream(pieces(b"\x7f\xff\xff\xff" + bytes(4) + checksum + b"x" * 20, 7))]


@pytest.mark.parametrize(
    ("framing", "line"),
    [
        (stream_framing.sse_data, lambda size: b"data: " + b"x" * size + b"\n"),
        (replicate.sse_events, lambda size: b"event: output\ndata: " + b"x" * size + b"\n\n"),
        (aws.event_stream, lambda size: framed({":message-type": "event"}, b'{"a":"' + b"x" * size + b'"}')),
    ],
    ids=["data", "replicate", "aws"],
)
async def test_reading_takes_linear_time_in_the_number_of_pieces(
    framing: Framing, line: Callable[[int], bytes]
) -> None:
    async def seconds(size: int) -> float:
        raw, started = line(size), time.process_time()
        assert len([event async for event in framing(pieces(raw, 1))]) == 1
        return time.process_time() - started

    few = min([await seconds(20_000) for _ in range(3)])
    assert await seconds(400_000) < 100 * few  # 20 times as many; copied each time it would be 400
