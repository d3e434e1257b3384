"""Streamed bodies are split into the same events whatever pieces they arrive in."""

import time
from binascii import crc32
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.providers.dialects import aws, replicate
from services.generation.providers.transport import stream_framing
from services.generation.providers.transport.stream_framing import ServerSentEvent, server_sent_events
from tests.fake_servers.bedrock import framed

Framing = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


async def pieces(raw: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


async def events_of(raw: bytes, size: int) -> list[ServerSentEvent]:
    return [event async for event in server_sent_events(pieces(raw, size))]


async def data_of(raw: bytes, size: int = 3) -> list[bytes]:
    return [data async for data in stream_framing.sse_data(pieces(raw, size))]


@given(st.lists(st.binary()), st.sampled_from([b"\n", b"\r", b"\r\n"]), st.integers(1, 9))
async def test_lines_are_split_whatever_the_pieces(given_lines: list[bytes], end: bytes, size: int) -> None:
    texts = [line.replace(b"\r", b"").replace(b"\n", b"") for line in given_lines]
    expected = texts if texts and texts[-1] else texts[:-1]
    if expected:
        expected = [expected[0].removeprefix(b"\xef\xbb\xbf"), *expected[1:]]
    assert [line async for line in stream_framing.lines(pieces(end.join(texts), size))] == expected


FORMAT: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "a byte order mark": (b"\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [(b"", b"1"), (b"", b"2")]),
    "one byte order mark alone": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [(b"", b"2")]),
    "a mark in the middle": (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\ndata: 3\n\n", [(b"", b"1"), (b"", b"3")]),
    "each end of a line": (
        b"data: 1\r\rdata: 2\n\ndata: 3\r\n\r\ndata: 4\r\n\n",
        [(b"", b"%d" % n) for n in (1, 2, 3, 4)],
    ),
    "mixed ends": (b"data: a\rdata: b\ndata: c\r\n\n", [(b"", b"a\nb\nc")]),
    "several lines of data": (b"data: a\ndata:\ndata: b\n\n", [(b"", b"a\n\nb")]),
    "no space after the colon": (b"data:a\n\n", [(b"", b"a")]),
    "one space is not data": (b"data:  a \ndata:\tb\n\n", [(b"", b" a \n\tb")]),
    "a field without a colon": (b"data\ndata\n\n", [(b"", b"\n")]),
    "empty data": (b"data\n\ndata:\n\n", [(b"", b""), (b"", b"")]),
    "comments": (b": x\ndata: a\n:\n:data: b\ndata: c\n\n", [(b"", b"a\nc")]),
    "a comment is no event": (b": x\n\n:\n\n", []),
    "names": (b"event: x\ndata: a\n\ndata: b\n\n", [(b"x", b"a"), (b"", b"b")]),
    "the last name of an event": (b"event: x\nevent: y\ndata: a\n\n", [(b"y", b"a")]),
    "a name without data": (b"event: x\n\ndata: a\n\n", [(b"", b"a")]),
    "fields that are not data": (b"id: 1\nretry: 9\nDATA: x\n data: y\ndatas: z\ndata: a\n\n", [(b"", b"a")]),
    "colons in data": (b"data:a:b: c\n\n", [(b"", b"a:b: c")]),
    "null bytes": (b"data: a\x00b\n\n\x00data: c\n\n", [(b"", b"a\x00b")]),
    "bytes that are no UTF-8": (b"data: \xff\xe2\x98\n\n", [(b"", b"\xff\xe2\x98")]),
    "other separators of lines": (
        "data: a\u2028b\u0085c\x0bd\x1ce\n\n".encode(),
        [(b"", "a\u2028b\u0085c\x0bd\x1ce".encode())],
    ),
}


@pytest.mark.parametrize("case", FORMAT)
async def test_the_format_whatever_the_pieces(case: str) -> None:
    raw, expected = FORMAT[case]
    for size in range(1, len(raw) + 1):
        assert [(event.name, event.data) for event in await events_of(raw, size) if event.complete] == expected
    for cut in range(len(raw)):
        cut_once = [event async for event in server_sent_events(aiter_of(raw[:cut], b"", raw[cut:]))]
        assert [(event.name, event.data) for event in cut_once] == expected


async def aiter_of(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_an_event_is_there_as_soon_as_its_empty_line_is() -> None:
    asked = 0

    async def received() -> AsyncIterator[bytes]:
        nonlocal asked
        for piece in (b"data: 1\r\n\r", b"\ndata: 2\r\r", b"data: 3\n\n"):
            asked += 1
            yield piece

    events = server_sent_events(received())
    assert [(await anext(events)).data, asked] == [b"1", 1]
    assert [(await anext(events)).data, asked] == [b"2", 2]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (b'data: {"b": 2}', [b'{"a": 1}', b'{"b": 2}']),
        (b'data: {"b": 2}\n', [b'{"a": 1}', b'{"b": 2}']),
        (b"data: [DONE]", [b'{"a": 1}', b"[DONE]"]),
        (b'data: {"b": ', [b'{"a": 1}']),
        (b'data: {"b": \n', [b'{"a": 1}']),
        (b"data: [DON", [b'{"a": 1}']),
        (b"dat", [b'{"a": 1}']),
    ],
)
async def test_a_last_event_that_is_cut_off_counts_if_it_is_whole(end: bytes, expected: list[bytes]) -> None:
    assert await data_of(b'data: {"a": 1}\n\n' + end) == expected


async def test_json_over_several_lines_is_one_and_forgotten_empty_lines_make_several() -> None:
    assert await data_of(b'data: {"a":\ndata: [1,\ndata: 2]}\n\n') == [b'{"a":\n[1,\n2]}']
    assert await data_of(b'data: {"a": 1}\ndata: {"b": 2}\ndata: [DONE]\n\n') == [b'{"a": 1}', b'{"b": 2}', b"[DONE]"]


async def test_lines_of_json_are_events_between_which_others_stand() -> None:
    raw = b'data: {"a":\ndata: 1}\n{"b": 2}\ndata: {"c": 3}\n\n{"d": 4}\n{"e": 5}\r\n{"cut": '
    expected = [b'{"a":\n1}', b'{"b": 2}', b'{"c": 3}', b'{"d": 4}', b'{"e": 5}']
    for size in (1, 2, len(raw)):
        assert [data async for data in stream_framing.sse_data(pieces(raw, size))] == expected


async def test_events_without_data_are_skipped() -> None:
    raw = b": hello\nevent: x\ndata:\n\ndata: \r\n\r\ndata: {}\r\n\ndata: [DONE]"
    assert await data_of(raw) == [b"{}", b"[DONE]"]


@pytest.mark.parametrize("framing", [stream_framing.sse_data, replicate.sse_events])
async def test_the_length_of_a_line_is_limited(framing: Framing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_framing, "MAX_EVENT_BYTES", 100)
    with pytest.raises(ValueError, match="a line of more than"):
        [event async for event in framing(pieces(b"data: " + b"x" * 200, 7))]


async def test_the_length_of_an_event_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_framing, "MAX_EVENT_BYTES", 100)
    with pytest.raises(ValueError, match="an event of more than"):
        await events_of(b"data: 1234567890\n" * 20, 7)


async def test_the_length_of_a_message_is_limited() -> None:
    checksum = crc32(b"\x7f\xff\xff\xff" + bytes(4)).to_bytes(4, "big")
    with pytest.raises(ValueError, match="a message of more than"):
        [event async for event in aws.event_stream(pieces(b"\x7f\xff\xff\xff" + bytes(4) + checksum + b"x" * 20, 7))]


@pytest.mark.parametrize(
    ("framing", "line"),
    [
        (stream_framing.sse_data, lambda size: b"data: " + b"x" * size + b"\n\n"),
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
