"""An OpenAI-compatible server that answers at once, so that the time of a call is Everloop's own."""

import asyncio

_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4-1106-preview","choices":'
    b'[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Fine, thank you."}}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}}'
)
_EVENT_TEMPLATE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4-1106-preview",'
    b'"choices":[{"index":0,"finish_reason":%s,"delta":{"content":"%s"}}]}\n\n'
)
_EVENTS = b"".join(
    _EVENT_TEMPLATE % event
    for event in ((b"null", b"Fine,"), (b"null", b" thank"), (b"null", b" you."), (b'"stop"', b""))
)
_USAGE_EVENT = b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}}\n\n'
_STREAM = _EVENTS + _USAGE_EVENT + b"data: [DONE]\n\n"
_STREAM_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(_STREAM), _STREAM)
)
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            body = await reader.readexactly(length)
            writer.write(_STREAM_RESPONSE if b'"stream":true' in body else _RESPONSE)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        writer.close()


async def main() -> None:
    """Listen on a free port of the loopback address and print the port."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
