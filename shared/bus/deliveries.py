"""A job as it was given to a worker: which try this is, and what is kept of the job when it has failed for good."""

import contextlib
from datetime import UTC, datetime

from nats.aio.msg import Msg

from shared import ids
from shared.contracts.dead_letters import ORGANISATION, DeadLetter, trace_of
from shared.errors import PLATFORM, Internal, Problem

_TRIED = "Everloop-Tried"
"""On a job that was given back: how many of its tries were used up before."""
_ORIGIN = "Everloop-Origin"
"""On a job that was given back: which message of the stream it was first, and since when."""
_SINCE = "Everloop-Since"


class Exhausted(Internal):
    """The job was given out as often as it may be, and no worker has told how that ended: they were killed, perhaps."""


class Delivery:
    """A job as it was given to this process."""

    def __init__(self, message: Msg) -> None:
        headers = message.headers or {}
        metadata = message.metadata
        self.message = message
        tried = headers.get(_TRIED, "")
        self.number = (int(tried) if tried.isdecimal() else 0) + metadata.num_delivered
        """Which try this is; 1 is the first."""
        self.since = metadata.timestamp
        with contextlib.suppress(ValueError):
            self.since = datetime.fromisoformat(headers.get(_SINCE, ""))
        self.origin = headers.get(_ORIGIN, f"{metadata.sequence.stream} {self.since.isoformat()}")
        self.organisation = headers.get(ORGANISATION)
        self.trace = trace_of(headers)

    def letter(self, error: BaseException) -> DeadLetter:
        """What is kept of it when it has failed for good."""
        return DeadLetter(
            subject=self.message.subject,
            payload=self.message.data,
            error=type(error).__name__,
            reason=reason(error),
            last_at=datetime.now(UTC),
            first_at=self.since,
            tries=self.number - isinstance(error, Exhausted),
            organisation=self.organisation,
            trace=self.trace,
        )

    def letter_id(self) -> str:
        """The same for every try of this job and for its copies."""
        return ids.derive("dead", self.message.subject, self.origin)

    def returned_headers(self) -> dict[str, str]:
        """Headers of the copy that stands for this delivery not having been a try."""
        found = {_TRIED: str(self.number - 1), _ORIGIN: self.origin, _SINCE: self.since.isoformat(), **self.trace}
        return found if self.organisation is None else {**found, ORGANISATION: self.organisation}


def reason(error: BaseException) -> str:
    """A sentence without content: the text of a foreign error may quote what a caller wants kept nowhere."""
    if isinstance(error, Problem):
        return error.message if error.origin == PLATFORM else f"{error.origin}: {error.code}"
    return "A defect; the log of the service has the details."
