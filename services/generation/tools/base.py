"""What a kind of tool is: the parameters of its call, and how one call is made."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from services.generation.http.guarded_client import Fetched, GuardedClient
from shared.contracts.tools import ToolSettings
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, UpstreamFailed

S = TypeVar("S", bound=ToolSettings)


@dataclass(frozen=True)
class ToolServices:
    """What tools reach: HTTP, and the addresses of the services they use."""

    guarded_client: GuardedClient
    serpapi_url: str
    pinecone_url: str
    embeddings_url: str
    """OpenAI's API, up to `/v1`."""


@dataclass(frozen=True)
class Invocation(Generic[S]):
    """One call of a tool."""

    settings: S
    arguments: tuple[str, ...]
    """As many as the kind has parameters."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Kind(Generic[S]):
    """A row of the registry."""

    parameters: Callable[[S], tuple[str, ...]]
    """Names of the arguments, in order."""
    run: Callable[[Invocation[S], ToolServices], Awaitable[str]] | None
    """Gives the text for the template. None: only models call tools of this kind, and the caller runs them."""


def json_of(fetched: Fetched, service: str) -> dict[str, Any]:
    """What a service answered. Errors: those of `answered`, UpstreamFailed (no JSON object)."""
    answered(fetched, service)
    try:
        value = from_json(fetched.content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UpstreamFailed("The answer is not a JSON object.", origin=service)
    return value


@contextmanager
def reading(service: str) -> Iterator[None]:
    """What reading something else than the service's language raises, as UpstreamFailed."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UpstreamFailed("The answer is not what it was expected to be.", origin=service) from error


def answered(fetched: Fetched, service: str) -> Fetched:
    """The answer, if it is one. What it says otherwise is kept out: it may repeat a key.

    Errors: Unauthenticated, RateLimited, Invalid (another 4xx or a redirect), UpstreamFailed (5xx).
    """
    if 200 <= fetched.status < 300:
        return fetched
    kind: type[Problem]
    match fetched.status:
        case 401 | 403:
            kind = Unauthenticated
        case 429:
            kind = RateLimited
        case status if status < 500:
            kind = Invalid
        case _:
            kind = UpstreamFailed
    raise kind(f"{service} answered with status {fetched.status}.", origin=service)
