"""One delivery of a job: its try number, its dead letter, and the headers of a copy that is returned to the queue."""

import contextlib
from datetime import UTC, datetime

from nats.aio.msg import Msg

from shared import ids
from shared.contracts.dead_letters import ORGANISATION_HEADER, DeadLetter, trace_headers_of
from shared.errors import PLATFORM, Internal, Problem

_TRIED_HEADER = "Everloop-Tried"
"""On a job that was returned to the queue: how many of its tries were used up before."""
_ORIGIN_HEADER = "Everloop-Origin"
"""On a job that was returned to the queue: stream sequence and time of the message it was first."""
_SINCE_HEADER = "Everloop-Since"
"""On a job that was returned to the queue: when it was first enqueued, ISO 8601."""


class Exhausted(Internal):
    """Every try of a job was delivered and none was settled: its workers were killed, or cut off from NATS."""


class Delivery:
    """A job message as it was delivered to this process."""

    def __init__(self, message: Msg) -> None:
        headers = message.headers or {}
        metadata = message.metadata
        self.message = message
        tried = headers.get(_TRIED_HEADER, "")
        self.number = (int(tried) if tried.isdecimal() else 0) + metadata.num_delivered
        """Number of this try; 1 is the first."""
        self.enqueued_at = metadata.timestamp
        with contextlib.suppress(ValueError):
            self.enqueued_at = datetime.fromisoformat(headers.get(_SINCE_HEADER, ""))
        self.origin = headers.get(_ORIGIN_HEADER, f"{metadata.sequence.stream} {self.enqueued_at.isoformat()}")
        """The same for the first message of a job and all its copies."""
        self.organisation = headers.get(ORGANISATION_HEADER)
        self.trace = trace_headers_of(headers)

    def dead_letter(self, error: BaseException) -> DeadLetter:
        """Return the dead letter of the job whose last try ended with `error`."""
        return DeadLetter(
            subject=self.message.subject,
            payload=self.message.data,
            error=type(error).__name__,
            reason=failure_reason(error),
            last_at=datetime.now(UTC),
            first_at=self.enqueued_at,
            tries=self.number - isinstance(error, Exhausted),
            organisation=self.organisation,
            trace=self.trace,
        )

    def dead_letter_id(self) -> str:
        """Return the message id of the dead letter: the same for every try of the job and for its copies."""
        return ids.derive("dead", self.message.subject, self.origin)

    def returned_headers(self) -> dict[str, str]:
        """Return the headers of a copy to enqueue in this message's place: this delivery does not count as a try."""
        headers = {
            _TRIED_HEADER: str(self.number - 1),
            _ORIGIN_HEADER: self.origin,
            _SINCE_HEADER: self.enqueued_at.isoformat(),
            **self.trace,
        }
        return headers if self.organisation is None else {**headers, ORGANISATION_HEADER: self.organisation}


def failure_reason(error: BaseException) -> str:
    """Return one sentence that quotes no content: the text of an error that is not ours may quote a caller's data."""
    if isinstance(error, Problem):
        return error.message if error.origin == PLATFORM else f"{error.origin}: {error.code}"
    return "A defect; the log of the service has the details."
