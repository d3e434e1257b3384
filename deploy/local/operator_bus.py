"""Connections to NATS as its user `operator`, and requests to services over them."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from pydantic import BaseModel

from deploy.local.errors import CommandError
from shared.bus.wire import problem_from_reply
from shared.contracts.message import Request

R = TypeVar("R", bound=BaseModel)

_CONNECT_TIMEOUT_SECONDS = 3
_INBOX_PREFIX = "_INBOX.operator"
"""Where authz may answer `operator`; another user may be asked, too, if it is allowed there."""
_REQUEST_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Server:
    """URL of a NATS server (comma-separated for a cluster), and the login there."""

    url: str
    user: str | None = None
    password: str | None = None


@contextlib.asynccontextmanager
async def connect(server: Server) -> AsyncIterator[Client]:
    """Connect. Raises CommandError if the server is away, refuses the login, or goes away meanwhile."""

    async def ignore(_: Exception) -> None:
        """Errors are raised as well; the default callback would log them, too."""

    client = Client()
    try:
        await client.connect(
            [url.strip() for url in server.url.split(",")],
            user=server.user if server.password else None,
            password=server.password,
            inbox_prefix=_INBOX_PREFIX,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # to each address; the default tries for two minutes
            reconnect_time_wait=0,
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            error_cb=ignore,
        )
        yield client
    except (OSError, NatsError) as error:
        raise CommandError(f"NATS at {server.url} (user {server.user}): {str(error) or type(error).__name__}") from None
    finally:
        await client.close()


async def send_request(server: Server, request: Request[R]) -> R:
    """Return a service's answer. Raises CommandError, with the service's own message if it refuses."""
    owner = request.subject.partition(".")[0]
    async with connect(server) as client:
        try:
            message = await client.request(
                request.subject, request.model_dump_json().encode(), timeout=_REQUEST_TIMEOUT_SECONDS
            )
        except NoRespondersError:
            raise CommandError(f"The {owner} service does not run.") from None
        if problem := problem_from_reply(message):
            raise CommandError(problem.message)
        return request.reply_type().model_validate_json(message.data)
