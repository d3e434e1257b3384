"""A provider whose answers are as large as a test wants: whole, or streams of events without end, as fast as they are
taken."""

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DELTA_CHARACTERS = 20_000
"""Of text in one event."""
_SEND_BUFFER_BYTES = 64 * 1024
"""Of the kernel; so what was sent has been taken, but for this."""


def _event(characters: int) -> bytes:
    return (
        b'data: {"id": "a", "object": "chat.completion.chunk", "choices": [{"index": 0, "finish_reason": null, '
        b'"delta": {"role": "assistant", "content": "' + b"y" * characters + b'"}}]}\n\n'
    )


def _whole(characters: int) -> bytes:
    return (
        b'{"id": "a", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", '
        b'"message": {"role": "assistant", "content": "' + b"y" * characters + b'"}}]}'
    )


class EndlessProvider:
    """Answers every request in OpenAI's language; a stream ends when its reader leaves."""

    def __init__(self) -> None:
        self.characters = DELTA_CHARACTERS
        """Of text in one event, and in a whole answer."""
        self._server: asyncio.Server | None = None
        self.url = ""
        self.sent: list[int] = []
        """Bytes of events, by stream."""
        self.streaming = 0
        """Streams that have not ended."""

    async def start(self) -> None:
        """Listen on a free port of this machine."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._server = await asyncio.start_server(self._answer, sock=listener)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    def stop(self) -> None:
        """Accept no more requests."""
        if self._server:
            self._server.close()

    def has_begun(self, streams: int) -> bool:
        """Whether so many streams have begun."""
        return len(self.sent) >= streams

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = len(self.sent)
        self.sent.append(0)
        self.streaming += 1
        writer.transport.set_write_buffer_limits(0)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if not json.loads(body).get("stream"):
                answer = _whole(self.characters)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
                writer.write(answer)
                await writer.drain()
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            event = _event(self.characters)
            while not writer.is_closing():
                writer.write(event)
                await writer.drain()
                self.sent[stream] += len(event)
                await asyncio.sleep(0)
        except (OSError, asyncio.IncompleteReadError):
            pass  # its reader has left
        finally:
            self.streaming -= 1
            writer.close() if writer.transport.get_write_buffer_size() == 0 else writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


@contextmanager
def serve() -> Iterator[EndlessProvider]:
    """Serve in a thread until the block ends."""
    provider, loop = EndlessProvider(), asyncio.new_event_loop()
    loop.run_until_complete(provider.start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        loop.call_soon_threadsafe(provider.stop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_cancel_streams())
        loop.close()


async def _cancel_streams() -> None:
    streams = asyncio.all_tasks() - {asyncio.current_task()}
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
