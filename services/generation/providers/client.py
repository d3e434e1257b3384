"""The only HTTP client: sends calls and turns what goes wrong into problems."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx
from pydantic_core import from_json, to_json

from services.generation.completion import Chunk, Completion, Json
from services.generation.providers import errors, spans
from services.generation.providers.base import Call, Canned, Next
from services.generation.providers.connections import Connections
from shared.errors import Problem

_CONNECT_SECONDS = 10.0
_WRITE_SECONDS = 60.0
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError)
"""What reading something else than the provider's language raises."""
_END = b"[DONE]"
_EVENTS = "text/event-stream"
_CANCEL_SECONDS = 5.0
_LAST_BYTES_SECONDS = 0.2
"""For what follows the last event of a stream: nothing but the end of the body, mostly in the same packet."""

Answer = Callable[[Json], Canned]


class Client:
    """Connections to every provider. `in_process` answers the addresses that need no network."""

    def __init__(self, read_seconds: float, in_process: Mapping[str, Answer]) -> None:
        self._timeout = httpx.Timeout(read_seconds, connect=_CONNECT_SECONDS, write=_WRITE_SECONDS).as_dict()
        self._connections = Connections()
        self._in_process = {httpx.URL(address).host: _InProcess(answer) for address, answer in in_process.items()}

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.aclose()

    async def complete(self, call: Call) -> Completion:
        """The whole answer. Errors: those of `providers/errors.py`."""
        with spans.of(call) as span, _problems(call):
            async with self._answer(call) as response:
                content = await response.aread()
            if not response.is_success:
                raise _refused(call, response)
            try:
                reply = from_json(content)
                detail = call.dialect.error_detail(reply)  # some write 200 above an error
                if detail is not None:
                    raise errors.broken(call.title, f"could not answer: {errors.masked(detail, call.key)}")
                completion = call.dialect.read_reply(call.request, reply)
            except _UNREADABLE as error:
                raise errors.broken(call.title, "sent an answer that cannot be read.") from error
            if len(completion.choices) < call.request.samples:
                had, wanted = len(completion.choices), call.request.samples
                raise errors.broken(call.title, f"gave {had} of the {wanted} samples it was asked for.")
            span.completed(completion)
            return completion

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes. Errors: those of `providers/errors.py`, at any point."""
        with spans.of(call) as span, _problems(call):
            async with self._answer(call) as response:
                if not response.is_success:
                    await response.aread()
                    raise _refused(call, response)
                finished = False
                events = call.frames(response.aiter_bytes())
                async for data in events:
                    if data == _END:
                        if not finished:
                            yield Chunk(finish_reason="stop")
                        await _read_to_end(events)
                        return
                    chunk = _read(call, data)
                    finished = finished or chunk.finish_reason is not None
                    span.add(chunk)
                    yield chunk
                if not finished:
                    raise errors.broken(call.title, "broke off in the middle of its answer.")

    @asynccontextmanager
    async def _answer(self, call: Call) -> AsyncIterator[httpx.Response]:
        """The response that holds the answer, or a refusal; closed afterwards."""
        response = await self._send(call, "POST", call.url)
        cancel_url = None
        try:
            while (step := await _next(call, response)) is not None:
                cancel_url = step.cancel_url or cancel_url
                await response.aclose()
                await asyncio.sleep(step.after_seconds)
                response = await self._send(call, "GET", step.url)
            yield response
            cancel_url = None
        finally:
            await response.aclose()
            if cancel_url:
                await self._cancel(call, cancel_url)

    async def _cancel(self, call: Call, url: str) -> None:
        """Best effort: the caller has left, and the provider would go on at its cost."""
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await (await self._send(call, "POST", url)).aclose()

    async def _send(self, call: Call, method: str, url: str) -> httpx.Response:
        request = httpx.Request(
            method,
            url,
            content=call.content if url == call.url else None,
            headers={
                "Accept": _EVENTS if method == "GET" and call.request.stream else "*/*",
                "Content-Type": "application/json",
                "User-Agent": "everloop",
                **call.headers,
                **(call.sign(call) if call.sign else {}),
            },
            extensions={"timeout": self._timeout},
        )
        transport = self._in_process.get(request.url.host) or self._connections
        return await transport.handle_async_request(request)


async def _next(call: Call, response: httpx.Response) -> Next | None:
    if call.follow is None or not response.is_success or _EVENTS in response.headers.get("content-type", ""):
        return None
    try:
        return call.follow(call, from_json(await response.aread()))
    except _UNREADABLE as error:
        raise errors.broken(call.title, "sent an answer that cannot be read.") from error


async def _read_to_end(events: AsyncIterator[bytes]) -> None:
    """A response that was read to its end leaves its connection open for the next call."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_LAST_BYTES_SECONDS):
            async for _ in events:
                pass


def _refused(call: Call, response: httpx.Response) -> Problem:
    try:
        detail = call.dialect.error_detail(from_json(response.content))
    except _UNREADABLE:
        detail = None
    detail = detail and errors.masked(detail, call.key)
    return errors.refused(call.title, response.status_code, detail, response.headers.get("retry-after"))


def _read(call: Call, data: bytes) -> Chunk:
    try:
        event: Any = from_json(data)
        detail = call.dialect.error_detail(event)
        if detail is not None:
            raise errors.broken(call.title, f"failed in the middle of its answer: {errors.masked(detail, call.key)}")
        return call.dialect.read_event(call.request, event)
    except _UNREADABLE as error:
        raise errors.broken(call.title, "sent an event that cannot be read.") from error


@contextmanager
def _problems(call: Call) -> Iterator[None]:
    """What httpx raises, as problems; its own words may hold the address and are kept out."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise errors.unreachable(call.title) from error
    except httpx.TimeoutException as error:
        raise errors.silent(call.title) from error
    except httpx.HTTPError as error:
        raise errors.broken(call.title, "closed the connection in the middle of its answer.") from error


class _InProcess(httpx.AsyncBaseTransport):
    """A provider that is a function."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        canned = self._answer(from_json(await request.aread()))
        if canned.delay_seconds:
            await asyncio.sleep(canned.delay_seconds)
        if canned.events is not None:
            return httpx.Response(canned.status, stream=_CannedEvents(canned))
        content = to_json(canned.payload)
        return httpx.Response(canned.status, content=content[: len(content) // 2] if canned.breaks else content)


class _CannedEvents(httpx.AsyncByteStream):
    def __init__(self, canned: Canned) -> None:
        self._canned = canned

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._canned.events or ():
            await asyncio.sleep(self._canned.event_delay_seconds)
            yield b"data: " + to_json(event) + b"\n\n"
        if not self._canned.breaks:
            yield b"data: " + _END + b"\n\n"
