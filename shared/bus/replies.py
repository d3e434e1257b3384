"""Replies to requests on core NATS: the answer, or the failure that the handler's error is told as."""

import asyncio
import logging

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from pydantic import BaseModel

from shared.bus.client import Bus
from shared.bus.wire import KIND_FAILURE, KIND_HEADER, check_size
from shared.errors import PLATFORM, Internal, Problem, TooLarge, Unavailable

logger = logging.getLogger(__name__)

_DEFECT_MESSAGE = "Something went wrong on our side; the service's log has the details."


async def reply(bus: Bus, raw: Msg, answer: BaseModel, kind: str | None = None) -> None:
    """Send `answer` to the caller of a request. Raises MaxPayloadError and other errors of nats-py."""
    if raw.reply:
        headers = {KIND_HEADER: kind} if kind else None
        payload = answer.model_dump_json().encode()
        check_size(bus.client, payload, headers)
        await bus.client.publish(raw.reply, payload, headers=headers)


async def reply_failure(bus: Bus, raw: Msg, error: BaseException, subject: str) -> None:
    """Tell the caller of a request on `subject` how its handler has failed."""
    problem = _problem(error, subject)
    try:
        try:
            await reply(bus, raw, problem.to_failure(), KIND_FAILURE)
        except ValueError as unsendable:  # a provider's text may have half of a surrogate pair, which is no Unicode
            logger.warning("%s: its problem cannot be sent: %s", subject, unsendable)
            await reply(bus, raw, Internal(_DEFECT_MESSAGE).to_failure(), KIND_FAILURE)
    except NatsError as lost:
        logger.warning("%s: its caller could not be told: %r", subject, lost)


def _problem(error: BaseException, subject: str) -> Problem:
    """Return what the caller is told. Defects are logged here, where the trace is."""
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("The service was stopped before it had finished. Try again.")
    if isinstance(error, MaxPayloadError):
        return TooLarge("The answer is more than fits into one message of the bus; ask for less at once.")
    if not isinstance(error, Problem):
        logger.error("%s failed", subject, exc_info=error)
        return Internal(_DEFECT_MESSAGE)
    if error.level >= logging.WARNING:
        # The message of a provider's error may quote a caller's data, which is kept nowhere.
        reason = error.message if error.origin == PLATFORM else f"{error.origin}: {error.code}"
        logger.log(error.level, "%s: %s", subject, reason, extra={"status": error.status})
    return error
