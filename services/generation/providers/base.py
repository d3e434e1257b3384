"""The interface between the transport and a provider's wire language (`Dialect`), and what passes over it."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.generation.models.request import Json, ModelRequest, ModelResponse, ResponseDelta, StreamAccumulator
from shared.contracts.chat import Usage

Framing = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Splits a streamed body into events, each a JSON text (or `[DONE]`)."""


class Dialect(Protocol):
    """Translates between our requests and one wire language; a module with these functions is one.

    All are pure functions over parsed JSON. The reading ones take any JSON: what a field should not be is read as what
    it may mean (`dialects/reply_fields.py`), as nobody gets a paid answer a second time.
    """

    def url(self, base_url: str, request: ModelRequest) -> str:
        """Return the URL to send the request to."""

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers that carry the key."""

    def body(self, request: ModelRequest) -> Json:
        """Return the request body. Raises Invalid if the language cannot express the request."""

    def read_response(self, request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401
        """Parse the body of a response that is not streamed.

        Raises ValueError if there is no answer in it; a Problem if the provider withholds the answer.
        """

    def read_event(self, request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401
        """Parse one event of a streamed response; empty if there is nothing in it."""

    def read_usage(self, reply: Any) -> Usage | None:  # noqa: ANN401
        """Return the usage in a response or an event, whatever else is in it."""

    def write_response(self, request: ModelRequest, accumulator: StreamAccumulator) -> Json:
        """Return a streamed response in the form of one that is not: `read_response` reads the same from it."""

    def read_error(self, payload: Any) -> "ReportedError | None":  # noqa: ANN401
        """Return the error that a response, of any status, or an event tells; None if it tells none."""


@dataclass(frozen=True)
class ReportedError:
    """An error as a provider tells it."""

    detail: str
    status: int | None = None
    """HTTP status that errors of its type or code have with this provider; None: not known."""


@dataclass(frozen=True)
class FollowUp:
    """Where to fetch the answer from, if the response only says that work has begun."""

    url: str
    after_seconds: float = 0
    """Delay before the request."""
    cancel_url: str | None = None
    """POST here cancels the work, when the caller has disconnected."""


@dataclass(frozen=True)
class PreparedRequest:
    """A provider request ready to be sent."""

    provider: str
    title: str
    """The provider's name in errors."""
    dialect: Dialect
    url: str
    headers: dict[str, str] = field(repr=False)
    body: Json
    content: bytes = field(repr=False)
    """`body` as JSON text, with image data in place of blob tokens."""
    text_bytes: int
    """Length of that text with the blob tokens."""
    request: ModelRequest
    """As the caller made it: names and ids of tools in `body` may be others."""
    framing: Framing
    tool_names: Mapping[str, str] = field(default_factory=dict)
    """The caller's names of tools by those in `body` that differ from them."""
    key: str | None = field(default=None, repr=False)
    sign: "Callable[[PreparedRequest], dict[str, str]] | None" = None
    """Returns headers that depend on the whole request, beside `headers`."""
    follow_up: "Callable[[PreparedRequest, Any], FollowUp | None] | None" = None
    """Reads a response (parsed JSON) and returns where to go on, or None if it is the answer itself."""


@dataclass(frozen=True)
class StubResponse:
    """The response of a provider inside this process."""

    status: int = 200
    payload: Json = field(default_factory=dict)
    events: Iterable[Json] | None = None
    """Instead of `payload`, if a stream was requested; each is made when it is sent."""
    delay_seconds: float = 0
    """Before the response begins."""
    event_delay_seconds: float = 0
    """Before each event."""
    truncated: bool = False
    """Half of the payload is sent, or the stream ends without `[DONE]`."""
