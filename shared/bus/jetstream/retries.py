"""Repeats requests to JetStream that it could not serve at the moment (docs/decisions/0018-clusters.md)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.errors import ConnectionReconnectingError, NoRespondersError, OutboundBufferLimitError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, ServiceUnavailableError

T = TypeVar("T")

_FIRST_ATTEMPT_SECONDS = 1.0
"""How long the first attempt waits for its reply, which may be lost with the leader it was sent to; each further one
waits twice as long, as the servers may only be slow."""
_FIRST_DELAY_SECONDS = 0.02
_MAX_DELAY_SECONDS = 0.5
_TEMPORARY_ERROR_CODES = frozenset(
    {
        10004,  # incomplete results
        10005,  # no suitable peers for placement: some may still be joining
        10007,  # cluster not assigned to this server
        10008,  # system temporarily unavailable: no leader of the cluster
        10009,  # cluster can not handle request: no longer the leader
        10023,  # insufficient resources: peers may still be joining
        10041,  # an error of Raft, such as a proposal of a former leader
        10075,  # peer remap failed
        10118,  # stream is offline
        10119,  # consumer is offline
        10158,  # duplicate message id is in process: the first message with this id is not decided yet
        10167,  # too many requests wait for the stream
    }
)
"""`err_code` of refusals that ask to be repeated
(https://github.com/nats-io/nats-server/blob/main/server/errors.json, 2.15, 2026-08-21)."""
_CONNECTION_ERRORS = (NatsTimeoutError, NoRespondersError, ConnectionReconnectingError, OutboundBufferLimitError)
"""No reply: it is not known whether the request has arrived, or nobody could answer it yet."""


def is_temporary(error: NatsError) -> bool:
    """Return whether the same request may succeed soon."""
    if not isinstance(error, APIError):
        return isinstance(error, _CONNECTION_ERRORS)
    if error.err_code:
        return error.err_code in _TEMPORARY_ERROR_CODES
    return isinstance(error, ServiceUnavailableError)


async def retry_temporary(attempt: Callable[[float], Awaitable[T]], timeout_seconds: float) -> T:
    """Return what `attempt` returns; it is given the seconds it may take: 1, 2, 4 …

    While it raises a temporary error it is made again, after 20, 40, 80 … at most 500 ms. When `timeout_seconds` are
    over the last error is raised; any other error at once.
    """
    deadline = time.monotonic() + timeout_seconds
    attempt_seconds, delay = _FIRST_ATTEMPT_SECONDS, _FIRST_DELAY_SECONDS
    while True:
        try:
            return await attempt(min(attempt_seconds, max(deadline - time.monotonic(), 0)))
        except NatsError as error:
            if not is_temporary(error) or time.monotonic() + delay >= deadline:
                raise
        await asyncio.sleep(delay)
        attempt_seconds, delay = 2 * attempt_seconds, min(2 * delay, _MAX_DELAY_SECONDS)
