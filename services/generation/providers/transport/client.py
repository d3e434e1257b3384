"""The HTTP client for providers: sends prepared requests, parses the responses, maps failures to problems."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from urllib.parse import urlsplit

import httpx
from pydantic_core import from_json, to_json

from services.generation.models.request import Json, ModelResponse, ResponseDelta
from services.generation.providers import errors, spans
from services.generation.providers.base import FollowUp, PreparedRequest, StubResponse
from services.generation.providers.transport.answer_memory import AnswerMemory
from services.generation.providers.transport.bodies import read_stream, read_whole
from services.generation.providers.transport.connections import ON_SENT, Connections, OnSent
from services.generation.providers.transport.reading import PARSE_ERRORS, EventReader, unreadable
from services.generation.providers.transport.response import ProviderResponse
from services.generation.providers.transport.stream_framing import DONE
from shared.errors import Invalid, Problem

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_WRITE_SECONDS = 60.0
_EVENT_STREAM = "text/event-stream"
_CANCEL_SECONDS = 5.0
_MAX_POLL_FAILURES = 6
"""Failed attempts in a row to fetch the result of work under way."""
_POLL_SECONDS = 1.0
"""Between two requests for the same result, and longer with each that failed."""

InProcessHandler = Callable[[Json], StubResponse]
"""Answers a request body inside this process."""


def _ignore_sent() -> None:
    """The default `OnSent`."""


class Client:
    """Sends requests to every provider. `in_process` handlers, by base URL, answer without a network."""

    def __init__(self, read_seconds: float, in_process: Mapping[str, InProcessHandler]) -> None:
        self._timeout = httpx.Timeout(read_seconds, connect=_CONNECT_SECONDS, write=_WRITE_SECONDS).as_dict()
        self._connections = Connections()
        self._answer_memory = AnswerMemory()
        self._in_process = {httpx.URL(url).host: _InProcessTransport(handler) for url, handler in in_process.items()}

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.aclose()

    def is_in_process(self, prepared: PreparedRequest) -> bool:
        """Whether a handler answers it. Such a provider fails only when it is told to."""
        return urlsplit(prepared.url).hostname in self._in_process

    async def complete(
        self, prepared: PreparedRequest, organisation: str = "", on_sent: OnSent = _ignore_sent
    ) -> ModelResponse:
        """Return the response of a request that is not streamed: at least one sample, maybe fewer than requested.

        The organisation is whose share of the memory the answer takes. Raises the problems of `providers/errors.py`.
        """
        with spans.call_span(prepared) as span, _map_errors(prepared):
            async with self._final_response(prepared, organisation, on_sent) as response:
                if not response.is_success:
                    raise await _status_problem(prepared, response)
                read = await read_whole(prepared, response)
            span.set_response(read)
            return read

    async def stream(
        self, prepared: PreparedRequest, organisation: str = "", on_sent: OnSent = _ignore_sent
    ) -> AsyncGenerator[ResponseDelta, None]:
        """Yield the events of a streamed response. Raises the problems of `providers/errors.py`, at any point."""
        with spans.call_span(prepared) as span, _map_errors(prepared):
            async with self._final_response(prepared, organisation, on_sent) as response:
                if not response.is_success:
                    raise await _status_problem(prepared, response)
                reader = EventReader(prepared)
                async with aclosing(read_stream(prepared, response, reader)) as deltas:
                    async for delta in deltas:
                        span.add_delta(delta)
                        yield delta
                reader.raise_if_unfinished()

    @asynccontextmanager
    async def _final_response(
        self, prepared: PreparedRequest, organisation: str, on_sent: OnSent
    ) -> AsyncIterator[ProviderResponse]:
        """Yield the response with the answer or an error status, after following up work under way; then close it.

        Work under way is cancelled if the caller leaves before the answer is read.
        """
        sent = await self._send(prepared, "POST", prepared.url, on_sent)
        response = ProviderResponse(prepared, sent, self._answer_memory.hold(organisation))
        cancel_url = None
        last: FollowUp | None = None
        try:
            while (follow_up := await _follow_up(prepared, response)) is not None:
                cancel_url = follow_up.cancel_url or cancel_url
                await response.close()
                same = last is not None and last.url == follow_up.url
                await asyncio.sleep(max(follow_up.after_seconds, _POLL_SECONDS if same else 0))
                response, last = await self._poll(prepared, organisation, follow_up), follow_up
            yield response
            cancel_url = None
        finally:
            await response.close()
            if cancel_url:
                await self._cancel(prepared, cancel_url)

    async def _poll(self, prepared: PreparedRequest, organisation: str, follow_up: FollowUp) -> ProviderResponse:
        """Fetch the result of work under way, with retries; the work is never started again, as it is charged for."""
        for attempt in range(_MAX_POLL_FAILURES):
            await asyncio.sleep(attempt * _POLL_SECONDS)
            try:
                fetched = await self._send(prepared, "GET", follow_up.url)
            except httpx.TransportError as error:
                logger.info("%s: the result of a call could not be fetched: %r", prepared.title, error)
                continue
            except Invalid as error:
                raise errors.invalid_response(prepared.title, "sent its answer to an address that is none.") from error
            response = ProviderResponse(prepared, fetched, self._answer_memory.hold(organisation))
            if response.is_success:
                return response
            try:
                problem = await _status_problem(prepared, response)
            finally:
                await response.close()
            if not problem.retryable:
                raise errors.invalid_response(
                    prepared.title, f"started to work, but refused to return its result: {problem.message}"
                )
        raise errors.invalid_response(prepared.title, "started to work, but its result could not be fetched.")

    async def _cancel(self, prepared: PreparedRequest, url: str) -> None:
        """Cancel work under way, if possible: the caller has left, and the provider would charge for all of it."""
        with suppress(httpx.HTTPError, TimeoutError, Invalid):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await (await self._send(prepared, "POST", url)).aclose()

    async def _send(
        self, prepared: PreparedRequest, method: str, url: str, on_sent: OnSent = _ignore_sent
    ) -> httpx.Response:
        headers = {
            "Accept": _EVENT_STREAM if method == "GET" and prepared.request.stream else "*/*",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "everloop",
            **prepared.headers,
            **(prepared.sign(prepared) if prepared.sign else {}),
        }
        content = prepared.content if url == prepared.url else None
        try:
            extensions = {"timeout": self._timeout, ON_SENT: on_sent}
            request = httpx.Request(method, url, content=content, headers=headers, extensions=extensions)
        except (httpx.InvalidURL, UnicodeError) as error:  # a host may look like an international name and not be one
            raise Invalid(f"The address of {prepared.title} is no address.") from error
        transport = self._in_process.get(request.url.host) or self._connections
        return await transport.handle_async_request(request)


async def _follow_up(prepared: PreparedRequest, response: ProviderResponse) -> FollowUp | None:
    if prepared.follow_up is None or not response.is_success:
        return None
    if _EVENT_STREAM in (response.header("content-type") or ""):
        return None
    try:
        return prepared.follow_up(prepared, await response.json())
    except PARSE_ERRORS as error:
        raise errors.invalid_response(
            prepared.title, "sent an answer that cannot be read.", unreadable(prepared, await response.read())
        ) from error


async def _status_problem(prepared: PreparedRequest, response: ProviderResponse) -> Problem:
    """Return the problem for a response with an error status."""
    try:
        error = prepared.dialect.read_error(await response.json())
    except (*PARSE_ERRORS, Problem, httpx.HTTPError):  # the status is known, and decides
        error = None
    detail = errors.mask_key(error.detail, prepared.key) if error else None
    return errors.from_status(prepared.title, response.status, detail, response.header("retry-after"))


@contextmanager
def _map_errors(prepared: PreparedRequest) -> Iterator[None]:
    """Raise httpx's errors as problems, without their messages, which may hold the URL."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
        raise errors.unreachable(prepared.title) from error
    except httpx.TimeoutException as error:
        raise errors.timed_out(prepared.title) from error
    except httpx.HTTPError as error:
        raise errors.invalid_response(prepared.title, "closed the connection in the middle of its answer.") from error


class _InProcessTransport(httpx.AsyncBaseTransport):
    """Answers requests by a handler."""

    def __init__(self, handler: InProcessHandler) -> None:
        self._handler = handler

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions[ON_SENT]()
        stub = self._handler(from_json(await request.aread()))
        if stub.delay_seconds:
            await asyncio.sleep(stub.delay_seconds)
        if stub.events is not None:
            return httpx.Response(stub.status, stream=_StubEvents(stub))
        content = to_json(stub.payload)
        sent = content[: len(content) // 2] if stub.truncated else content
        return httpx.Response(stub.status, stream=httpx.ByteStream(sent))


class _StubEvents(httpx.AsyncByteStream):
    def __init__(self, stub: StubResponse) -> None:
        self._stub = stub

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._stub.events or ():
            await asyncio.sleep(self._stub.event_delay_seconds)
            yield b"data: " + to_json(event) + b"\n\n"
        if not self._stub.truncated:
            yield b"data: " + DONE + b"\n\n"
