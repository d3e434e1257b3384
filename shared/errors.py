"""The errors a caller is told about, as exceptions. The class decides the HTTP status, the retry and the log level.

Problem
├── BadRequest        400  the request cannot be read
├── Unauthenticated   401  no key, a wrong one, or a revoked one
├── Denied            403  the caller's role lacks the permission
├── NotFound          404  there is no such thing in the caller's organisation
├── WrongMethod       405  the path exists, the method does not
├── RequestTimeout    408  the request did not arrive in time (retryable)
├── Conflict          409  the name is taken
├── TooLarge          413  the body is over the limit
├── UriTooLong        414  the request line is over the limit
├── Unsupported       415  the body is encoded in a way that is not read
├── Invalid           422  well-formed, but it cannot be done
├── RateLimited       429  try again later (retryable)
├── HeadersTooLarge   431  the headers are over the limit
├── Internal          500  a defect of ours
├── UpstreamFailed    502  a provider failed (retryable)
└── Unavailable       503  a service, the bus or a database is away (retryable)

The `code` strings follow the published list of the v4 contract where it has one (behaviour.md §1.5).
"""

import logging
from typing import ClassVar

from shared.contracts.message import Failure

PLATFORM = "Humanloop"
"""The `origin` of errors that are the platform's own: old clients compare it."""


class Problem(Exception):  # noqa: N818 - the field's word for an error a caller may see (RFC 9457)
    """An error whose message the caller may see."""

    status: ClassVar[int] = 500
    """HTTP status."""
    code: ClassVar[str] = "unknown_error"
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later."""
    level: ClassVar[int] = logging.INFO
    """At which a service logs that it answered so."""

    def __init__(self, message: str, *, origin: str = PLATFORM, retry_after_seconds: float | None = None) -> None:
        """`origin` is `PLATFORM`, or the display name of the provider the message comes from."""
        super().__init__(message)
        self.message = message
        self.origin = origin
        self.retry_after_seconds = retry_after_seconds

    def to_failure(self) -> Failure:
        """Return this problem as a reply on the bus."""
        return Failure(
            status=self.status,
            message=self.message,
            origin=self.origin,
            retry_after_seconds=self.retry_after_seconds,
        )


class BadRequest(Problem):
    """The request cannot be read."""

    status = 400
    code = "bad_request_error"


class Unauthenticated(Problem):
    """No key, a wrong one, or a revoked one."""

    status = 401
    code = "authentication_error"


class Denied(Problem):
    """The caller's role lacks the permission."""

    status = 403
    code = "permission_error"


class NotFound(Problem):
    """There is no such thing in the caller's organisation."""

    status = 404
    code = "not_found_error"


class WrongMethod(Problem):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed_error"


class RequestTimeout(Problem):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout_error"
    retryable = True


class Conflict(Problem):
    """The name is taken."""

    status = 409
    code = "conflict_error"


class TooLarge(Problem):
    """The body is over the limit."""

    status = 413
    code = "payload_too_large_error"


class UriTooLong(Problem):
    """The request line is over the limit."""

    status = 414
    code = "uri_too_long_error"


class Unsupported(Problem):
    """The body is encoded in a way that is not read."""

    status = 415
    code = "unsupported_media_type_error"


class Invalid(Problem):
    """Well-formed, but it cannot be done."""

    status = 422
    code = "unprocessable_entity_error"


class RateLimited(Problem):
    """Try again later."""

    status = 429
    code = "rate_limit_error"
    retryable = True


class HeadersTooLarge(Problem):
    """The headers are over the limit."""

    status = 431
    code = "headers_too_large_error"


class Internal(Problem):
    """A defect of ours; the log has the details under the same trace id."""

    status = 500
    code = "unknown_error"
    level = logging.ERROR


class UpstreamFailed(Problem):
    """A provider failed."""

    status = 502
    code = "upstream_error"
    retryable = True
    level = logging.WARNING


class Unavailable(Problem):
    """A service, the bus or a database is away."""

    status = 503
    code = "service_unavailable_error"
    retryable = True
    level = logging.WARNING

    def __init__(self, message: str, *, origin: str = PLATFORM, retry_after_seconds: float | None = 1.0) -> None:
        super().__init__(message, origin=origin, retry_after_seconds=retry_after_seconds)


_BY_STATUS: dict[int, type[Problem]] = {kind.status: kind for kind in Problem.__subclasses__()}


def from_failure(failure: Failure) -> Problem:
    """Return the problem that another service replied with."""
    kind = _BY_STATUS.get(failure.status, Internal)
    return kind(failure.message, origin=failure.origin, retry_after_seconds=failure.retry_after_seconds)
