"""What a provider is: a `Dialect` translates between our requests and one wire language, and does nothing else."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from services.generation.completion import Chunk, Completion, CompletionRequest, Joined, Json


class Dialect(Protocol):
    """Pure functions over plain JSON; a module with these functions is one. Reading raises LookupError, TypeError or
    ValueError on what is not the language."""

    def url(self, base_url: str, request: CompletionRequest) -> str:
        """Where to send the request."""

    def headers(self, key: str | None) -> dict[str, str]:
        """How the key is shown."""

    def body(self, request: CompletionRequest) -> Json:
        """What to send."""

    def read_reply(self, request: CompletionRequest, reply: Any) -> Completion:  # noqa: ANN401
        """A whole answer."""

    def read_event(self, request: CompletionRequest, event: Any) -> Chunk:  # noqa: ANN401
        """One event of a streamed answer."""

    def write_reply(self, request: CompletionRequest, joined: Joined) -> Json:
        """A streamed answer as the provider would have sent it whole: `read_reply` reads the same from it."""

    def error_detail(self, payload: Any) -> str | None:  # noqa: ANN401
        """The sentence of an error, or None if `payload` is none."""


@dataclass(frozen=True)
class Call:
    """A request ready to be sent."""

    provider: str
    title: str
    """How the provider is called in errors."""
    dialect: Dialect
    url: str
    body: Json
    content: bytes = field(repr=False)
    """`body` as JSON text."""
    request: CompletionRequest
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Canned:
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
