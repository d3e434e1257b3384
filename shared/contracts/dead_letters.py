"""Dead letters: messages that failed for good, in the stream `DEAD`. The payload is as it was sent; headers say why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

STREAM = "DEAD"
MAX_PAYLOAD_BYTES = 7 * 1024 * 1024
"""A longer payload is cut, because headers are added and a message may have 8 MB."""
_MAX_REASON_CHARACTERS = 500

ORGANISATION_HEADER = "Everloop-Organisation"
"""Also on jobs, so that an operator sees whose they are without reading the payload."""
_REASON = "Everloop-Reason"
_SUBJECT = "Everloop-Subject"
_ERROR = "Everloop-Error"
_TRIES = "Everloop-Tries"
_FIRST_AT = "Everloop-First-At"
_LAST_AT = "Everloop-Last-At"
_SIZE = "Everloop-Size"
_TRACE = ("traceparent", "tracestate")
_LOGS = "logs.intake"
"""The subject of letters without the header `Everloop-Subject`: earlier versions wrote only those of the intake."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that is not tried again unless an operator replays it."""

    subject: str
    """Where the message was sent, and is sent again by `everloop dead replay`."""
    payload: bytes
    """As it was sent."""
    error: str
    """Name of the class of the error."""
    reason: str
    """One sentence for an operator, without content of the message."""
    last_at: datetime
    """When the last try ended."""
    first_at: datetime | None = None
    """When it was first sent; None if that is not known."""
    tries: int = 1
    organisation: str | None = None
    trace: Mapping[str, str] = field(default_factory=dict)
    """W3C trace context headers of the sender."""
    size: int | None = None
    """Length in bytes of the original payload if it was cut, and so cannot be replayed; else None."""

    def to_headers(self) -> dict[str, str]:
        """Return everything but the payload as message headers."""
        headers = {
            _REASON: " ".join(self.reason.split())[:_MAX_REASON_CHARACTERS],
            _SUBJECT: self.subject,
            _ERROR: self.error,
            _TRIES: str(self.tries),
            _LAST_AT: self.last_at.isoformat(),
            **trace_headers_of(self.trace),
        }
        if self.first_at is not None:
            headers[_FIRST_AT] = self.first_at.isoformat()
        if self.organisation is not None:
            headers[ORGANISATION_HEADER] = self.organisation
        if len(self.payload) > MAX_PAYLOAD_BYTES:
            headers[_SIZE] = str(len(self.payload))
        return headers

    @classmethod
    def from_message(cls, headers: Mapping[str, str], payload: bytes, stored_at: datetime) -> "DeadLetter":
        """Return the letter in a message of `DEAD` stored at `stored_at`; headers that are missing have defaults."""
        first_at, last_at, size = headers.get(_FIRST_AT), headers.get(_LAST_AT), headers.get(_SIZE)
        return cls(
            subject=headers.get(_SUBJECT, _LOGS),
            payload=payload,
            error=headers.get(_ERROR, "Invalid"),
            reason=headers.get(_REASON, ""),
            last_at=datetime.fromisoformat(last_at) if last_at else stored_at,
            first_at=datetime.fromisoformat(first_at) if first_at else None,
            tries=int(headers.get(_TRIES, "1")),
            organisation=headers.get(ORGANISATION_HEADER),
            trace=trace_headers_of(headers),
            size=int(size) if size else None,
        )


def trace_headers_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the W3C trace context headers among the headers of a message."""
    return {name: headers[name] for name in _TRACE if name in headers}
