"""What a provider is: a `Dialect` translates between our requests and one wire language, and does nothing else."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.generation.models.request import Json, ModelRequest, ModelResponse, ResponseDelta, StreamAccumulator

Framing = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Cuts a streamed body into events, each a JSON text (or `[DONE]`)."""


class Dialect(Protocol):
    """Pure functions over plain JSON; a module with these functions is one. Reading raises LookupError, TypeError or
    ValueError on what is not the language."""

    def url(self, base_url: str, request: ModelRequest) -> str:
        """Where to send the request."""

    def headers(self, key: str | None) -> dict[str, str]:
        """How the key is shown."""

    def body(self, request: ModelRequest) -> Json:
        """What to send."""

    def read_reply(self, request: ModelRequest, reply: Any) -> ModelResponse:  # noqa: ANN401
        """A whole answer."""

    def read_event(self, request: ModelRequest, event: Any) -> ResponseDelta:  # noqa: ANN401
        """One event of a streamed answer."""

    def write_reply(self, request: ModelRequest, accumulator: StreamAccumulator) -> Json:
        """A streamed answer as the provider would have sent it whole: `read_reply` reads the same from it."""

    def error_detail(self, payload: Any) -> str | None:  # noqa: ANN401
        """The sentence of an error, or None if `payload` is none."""


@dataclass(frozen=True)
class Next:
    """Where the answer is, when the reply to the request only says that work has begun."""

    url: str
    after_seconds: float = 0
    """To wait before asking."""
    cancel_url: str | None = None
    """POST here ends the work when nobody waits for it any more."""


@dataclass(frozen=True)
class PreparedRequest:
    """A request ready to be sent."""

    provider: str
    title: str
    """How the provider is called in errors."""
    dialect: Dialect
    url: str
    headers: dict[str, str] = field(repr=False)
    body: Json
    content: bytes = field(repr=False)
    """`body` as JSON text, images in it whole."""
    text_bytes: int
    """Length of that text before large images were put into it."""
    request: ModelRequest
    framing: Framing
    key: str | None = field(default=None, repr=False)
    sign: "Callable[[PreparedRequest], dict[str, str]] | None" = None
    """Headers that depend on the whole request, beside `headers`."""
    follow: "Callable[[PreparedRequest, Any], Next | None] | None" = None
    """Reads a reply (parsed JSON) and says where to go on, or None when it is the answer itself."""


@dataclass(frozen=True)
class StubResponse:
    """What a provider inside this process answers."""

    status: int = 200
    payload: Json = field(default_factory=dict)
    events: list[Json] | None = None
    """Instead of `payload`, when a stream was asked for."""
    delay_seconds: float = 0
    """Before the answer begins."""
    event_delay_seconds: float = 0
    """Before each event."""
    breaks: bool = False
    """The stream ends without an end."""
