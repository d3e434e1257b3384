"""The only HTTP client: sends calls and turns what goes wrong into problems."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic_core import from_json, to_json

from services.generation.models.request import Json, ModelResponse, ResponseDelta
from services.generation.providers import errors, spans
from services.generation.providers.base import Next, PreparedRequest, StubResponse
from services.generation.providers.transport.bounded_json import read_json
from services.generation.providers.transport.connections import SENT, Connections, Sent
from services.generation.providers.transport.response import ProviderResponse
from shared.errors import Invalid, Problem

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_WRITE_SECONDS = 60.0
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError)
"""What reading something else than the provider's language raises."""
_END = b"[DONE]"
_EVENTS = "text/event-stream"
_CANCEL_SECONDS = 5.0
_FOLLOWS = 6
_AGAIN_SECONDS = 1.0
"""Between two questions about the same work, and longer with each that failed."""
_LAST_BYTES_SECONDS = 0.2
"""For what follows the last event of a stream: nothing but the end of the body, mostly in the same packet."""

Answer = Callable[[Json], StubResponse]


def _unheard() -> None:
    """Nobody wants to know."""


class Client:
    """Connections to every provider. `in_process` answers the addresses that need no network."""

    def __init__(self, read_seconds: float, in_process: Mapping[str, Answer]) -> None:
        self._timeout = httpx.Timeout(read_seconds, connect=_CONNECT_SECONDS, write=_WRITE_SECONDS).as_dict()
        self._connections = Connections()
        self._in_process = {httpx.URL(address).host: _InProcess(answer) for address, answer in in_process.items()}

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.aclose()

    def is_in_process(self, prepared: PreparedRequest) -> bool:
        """Whether it goes nowhere: such a provider fails when it is asked to."""
        return urlsplit(prepared.url).hostname in self._in_process

    async def complete(self, prepared: PreparedRequest, sent: Sent = _unheard) -> ModelResponse:
        """The whole answer. Errors: those of `providers/errors.py`."""
        with spans.of(prepared) as span, _problems(prepared):
            async with self._answer(prepared, sent) as reply:
                if not reply.is_success:
                    raise await _refused(prepared, reply)
                await reply.content()
            try:
                read = await reply.parsed()
                detail = prepared.dialect.error_detail(read)  # some write 200 above an error
                if detail is not None:
                    said = errors.masked(detail, prepared.key)
                    raise errors.broken(prepared.title, f"could not answer: {said}", _beside_error(prepared, read))
                completion = prepared.dialect.read_reply(prepared.request, read)
            except _UNREADABLE as error:
                raise errors.broken(prepared.title, "sent an answer that cannot be read.") from error
            if len(completion.choices) < prepared.request.samples:
                had, wanted = len(completion.choices), prepared.request.samples
                raise errors.broken(prepared.title, f"gave {had} of the {wanted} samples it was asked for.", completion)
            span.completed(completion)
            return completion

    async def stream(self, prepared: PreparedRequest, sent: Sent = _unheard) -> AsyncGenerator[ResponseDelta, None]:
        """The answer as it comes. Errors: those of `providers/errors.py`, at any point."""
        with spans.of(prepared) as span, _problems(prepared):
            async with self._answer(prepared, sent) as reply:
                if not reply.is_success:
                    raise await _refused(prepared, reply)
                finished = False
                events = _readable(prepared, prepared.framing(reply.pieces()))
                async for data in events:
                    if data == _END:
                        if not finished:
                            yield ResponseDelta(finish_reason="stop")
                        await _read_to_end(events)
                        return
                    chunk = _read(prepared, data)
                    finished = finished or chunk.finish_reason is not None
                    span.add(chunk)
                    yield chunk
                if not finished:
                    raise errors.broken(prepared.title, "broke off in the middle of its answer.")

    @asynccontextmanager
    async def _answer(self, prepared: PreparedRequest, sent: Sent) -> AsyncIterator[ProviderResponse]:
        """The reply that holds the answer, or a refusal; closed afterwards."""
        reply = ProviderResponse(prepared, await self._send(prepared, "POST", prepared.url, sent))
        cancel_url = None
        last: Next | None = None
        try:
            while (step := await _next(prepared, reply)) is not None:
                cancel_url = step.cancel_url or cancel_url
                await reply.close()
                same = last is not None and last.url == step.url
                await asyncio.sleep(max(step.after_seconds, _AGAIN_SECONDS if same else 0))
                reply, last = await self._follow(prepared, step), step
            yield reply
            cancel_url = None
        finally:
            await reply.close()
            if cancel_url:
                await self._cancel(prepared, cancel_url)

    async def _follow(self, prepared: PreparedRequest, step: Next) -> ProviderResponse:
        """What has come of work under way. It is asked again and again, but never begun again: that is paid for."""
        for attempt in range(_FOLLOWS):
            await asyncio.sleep(attempt * _AGAIN_SECONDS)
            try:
                reply = ProviderResponse(prepared, await self._send(prepared, "GET", step.url))
            except httpx.TransportError as error:
                logger.info("%s: what came of a call could not be asked: %r", prepared.title, error)
                continue
            except Invalid as error:
                raise errors.broken(prepared.title, "sent its answer to an address that is none.") from error
            if reply.is_success:
                return reply
            refused = await _refused(prepared, reply)
            await reply.close()
            if not refused.retryable:
                raise errors.broken(prepared.title, f"began to work and then refused to tell: {refused.message}")
        raise errors.broken(prepared.title, "began to work and then could not be asked what had come of it.")

    async def _cancel(self, prepared: PreparedRequest, url: str) -> None:
        """Best effort: the caller has left, and the provider would go on at its cost."""
        with suppress(httpx.HTTPError, TimeoutError, Invalid):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await (await self._send(prepared, "POST", url)).aclose()

    async def _send(self, prepared: PreparedRequest, method: str, url: str, sent: Sent = _unheard) -> httpx.Response:
        headers = {
            "Accept": _EVENTS if method == "GET" and prepared.request.stream else "*/*",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "everloop",
            **prepared.headers,
            **(prepared.sign(prepared) if prepared.sign else {}),
        }
        content = prepared.content if url == prepared.url else None
        try:
            extensions = {"timeout": self._timeout, SENT: sent}
            request = httpx.Request(method, url, content=content, headers=headers, extensions=extensions)
        except (httpx.InvalidURL, UnicodeError) as error:  # a host name may look international and not be it
            raise Invalid(f"The address of {prepared.title} is no address.") from error
        transport = self._in_process.get(request.url.host) or self._connections
        return await transport.handle_async_request(request)


def _beside_error(prepared: PreparedRequest, reply: Any) -> ModelResponse | None:  # noqa: ANN401
    """As far as the samples came: none of them ended."""
    with suppress(Problem, *_UNREADABLE):
        read = prepared.dialect.read_reply(prepared.request, reply)
        return replace(read, choices=[replace(choice, finish_reason=None) for choice in read.choices])
    return None


def _told_beside(prepared: PreparedRequest, event: Any) -> ModelResponse | None:  # noqa: ANN401
    with suppress(Problem, *_UNREADABLE):
        return ModelResponse([], event, prepared.dialect.read_event(prepared.request, event).usage)
    return None


async def _next(prepared: PreparedRequest, reply: ProviderResponse) -> Next | None:
    if prepared.follow is None or not reply.is_success or _EVENTS in (reply.header("content-type") or ""):
        return None
    try:
        return prepared.follow(prepared, await reply.parsed())
    except _UNREADABLE as error:
        raise errors.broken(prepared.title, "sent an answer that cannot be read.") from error


async def _readable(prepared: PreparedRequest, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events, as long as their framing can be read."""
    try:
        async for event in events:
            yield event
    except _UNREADABLE as error:
        raise errors.broken(prepared.title, "sent a stream that cannot be read.") from error


async def _read_to_end(events: AsyncIterator[bytes]) -> None:
    """A response that was read to its end leaves its connection open for the next call."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_LAST_BYTES_SECONDS):
            async for _ in events:
                pass


async def _refused(prepared: PreparedRequest, reply: ProviderResponse) -> Problem:
    try:
        detail = prepared.dialect.error_detail(await reply.parsed())
    except (*_UNREADABLE, Problem, httpx.HTTPError):  # the status is known, and decides
        detail = None
    detail = detail and errors.masked(detail, prepared.key)
    return errors.refused(prepared.title, reply.status, detail, reply.header("retry-after"))


def _read(prepared: PreparedRequest, data: bytes) -> ResponseDelta:
    try:
        event: Any = read_json(data)
        detail = prepared.dialect.error_detail(event)
        if detail is not None:
            said = errors.masked(detail, prepared.key)
            raise errors.broken(
                prepared.title, f"failed in the middle of its answer: {said}", _told_beside(prepared, event)
            )
        return prepared.dialect.read_event(prepared.request, event)
    except _UNREADABLE as error:
        raise errors.broken(prepared.title, "sent an event that cannot be read.") from error


@contextmanager
def _problems(prepared: PreparedRequest) -> Iterator[None]:
    """What httpx raises, as problems; its own words may hold the address and are kept out."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
        raise errors.unreachable(prepared.title) from error
    except httpx.TimeoutException as error:
        raise errors.silent(prepared.title) from error
    except httpx.HTTPError as error:
        raise errors.broken(prepared.title, "closed the connection in the middle of its answer.") from error


class _InProcess(httpx.AsyncBaseTransport):
    """A provider that is a function."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions[SENT]()
        canned = self._answer(from_json(await request.aread()))
        if canned.delay_seconds:
            await asyncio.sleep(canned.delay_seconds)
        if canned.events is not None:
            return httpx.Response(canned.status, stream=_CannedEvents(canned))
        content = to_json(canned.payload)
        sent = content[: len(content) // 2] if canned.breaks else content
        return httpx.Response(canned.status, stream=httpx.ByteStream(sent))


class _CannedEvents(httpx.AsyncByteStream):
    def __init__(self, canned: StubResponse) -> None:
        self._canned = canned

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._canned.events or ():
            await asyncio.sleep(self._canned.event_delay_seconds)
            yield b"data: " + to_json(event) + b"\n\n"
        if not self._canned.breaks:
            yield b"data: " + _END + b"\n\n"
