"""What failed for good: the message as it was sent, and in its headers why and when. Kept in the stream `DEAD`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

STREAM = "DEAD"
MOST_BYTES = 7 * 1024 * 1024
"""Of a payload that is kept: what is longer is cut, because headers are added and a message may take 8 MB."""
_MOST_REASON = 500
"""Characters."""

ORGANISATION = "Everloop-Organisation"
"""On jobs, too: whose they are can be told without reading them."""
_REASON = "Everloop-Reason"
_SUBJECT = "Everloop-Subject"
_ERROR = "Everloop-Error"
_TRIES = "Everloop-Tries"
_FIRST_AT = "Everloop-First-At"
_LAST_AT = "Everloop-Last-At"
_SIZE = "Everloop-Size"
_TRACE = ("traceparent", "tracestate")
_LOGS = "logs.intake"
"""Where letters without the header `Everloop-Subject` came from: there was no other sender then."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that will not be tried again by itself. `payload` and `trace` are as they were sent."""

    subject: str
    """Where the message was sent, and is sent again by `everloop dead replay`."""
    payload: bytes
    error: str
    """Name of the class of the error."""
    reason: str
    """One sentence for an operator. It quotes no content: that stands in the payload or nowhere."""
    last_at: datetime
    """When it was given up."""
    first_at: datetime | None = None
    """When it was sent first; None if that is not known."""
    tries: int = 1
    organisation: str | None = None
    trace: Mapping[str, str] = field(default_factory=dict)
    """W3C trace context of the sender."""
    size: int | None = None
    """Length of the payload in bytes if it was cut, so that it cannot be sent again; else None."""

    def headers(self) -> dict[str, str]:
        """The letter less its payload, as headers."""
        found = {
            _REASON: " ".join(self.reason.split())[:_MOST_REASON],
            _SUBJECT: self.subject,
            _ERROR: self.error,
            _TRIES: str(self.tries),
            _LAST_AT: self.last_at.isoformat(),
            **trace_of(self.trace),
        }
        if self.first_at is not None:
            found[_FIRST_AT] = self.first_at.isoformat()
        if self.organisation is not None:
            found[ORGANISATION] = self.organisation
        if len(self.payload) > MOST_BYTES:
            found[_SIZE] = str(len(self.payload))
        return found

    @classmethod
    def read(cls, headers: Mapping[str, str], payload: bytes, stored_at: datetime) -> "DeadLetter":
        """The letter that `headers` and `payload` are; what older senders did not say has its default."""
        first_at, last_at, size = headers.get(_FIRST_AT), headers.get(_LAST_AT), headers.get(_SIZE)
        return cls(
            subject=headers.get(_SUBJECT, _LOGS),
            payload=payload,
            error=headers.get(_ERROR, "Invalid"),
            reason=headers.get(_REASON, ""),
            last_at=datetime.fromisoformat(last_at) if last_at else stored_at,
            first_at=datetime.fromisoformat(first_at) if first_at else None,
            tries=int(headers.get(_TRIES, "1")),
            organisation=headers.get(ORGANISATION),
            trace=trace_of(headers),
            size=int(size) if size else None,
        )


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The trace context among some headers."""
    return {name: headers[name] for name in _TRACE if name in headers}
