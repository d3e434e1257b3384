"""`ToolKind`: the parameters of a tool's call and how one call is made; and how the responses of services are read."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from services.generation.http.guarded_client import GuardedClient, GuardedSession
from services.generation.http.response import HttpResponse
from shared.contracts.generation.tools import ToolSettings
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, UpstreamFailed

S = TypeVar("S", bound=ToolSettings)


@dataclass(frozen=True)
class ToolServices:
    """What tools call: an HTTP client, and the base URLs of the services they use."""

    guarded_client: GuardedClient
    serpapi_url: str
    pinecone_url: str
    embeddings_url: str
    """OpenAI's API, up to `/v1`."""


@dataclass(frozen=True)
class Invocation(Generic[S]):
    """One call of a tool."""

    session: GuardedSession
    settings: S
    arguments: tuple[str, ...]
    """As many as the kind has parameters."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The tool's secrets by name, decrypted."""


@dataclass(frozen=True)
class ToolKind(Generic[S]):
    """How the tools of one kind are called; a row of `registry.KINDS`."""

    parameters: Callable[[S], tuple[str, ...]]
    """Returns the names of the arguments, in order."""
    run: Callable[[Invocation[S], ToolServices], Awaitable[str]] | None
    """Makes a call and returns the text for the template. None: models call this kind, and the API's caller runs it."""


def parse_json_object(response: HttpResponse, service: str) -> dict[str, Any]:
    """Return the JSON object in a service's response. Raises as `check_status`; UpstreamFailed if it has none."""
    check_status(response, service)
    try:
        value = from_json(response.content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UpstreamFailed("The answer is not a JSON object.", origin=service)
    return value


@contextmanager
def parse_errors(service: str) -> Iterator[None]:
    """Raise UpstreamFailed for the errors of reading a response that does not have the fields it should have."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UpstreamFailed("The answer is not what it was expected to be.", origin=service) from error


def check_status(response: HttpResponse, service: str) -> HttpResponse:
    """Return the response if its status is 2xx.

    Raises Unauthenticated (401, 403), RateLimited (429), Invalid (another 4xx or a redirect), UpstreamFailed (5xx). The
    error has the status and not the content, which may repeat a key.
    """
    if 200 <= response.status < 300:
        return response
    problem: type[Problem]
    match response.status:
        case 401 | 403:
            problem = Unauthenticated
        case 429:
            problem = RateLimited
        case status if status < 500:
            problem = Invalid
        case _:
            problem = UpstreamFailed
    raise problem(f"{service} answered with status {response.status}.", origin=service)
