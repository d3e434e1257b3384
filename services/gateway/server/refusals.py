"""Answers of the server itself, to what never becomes a request of the application, and their log lines."""

import logging
from collections import Counter
from http import HTTPStatus

from services.gateway.errors import problem_response
from services.gateway.responses.headers import SECURITY_HEADERS
from shared.errors import Problem

logger = logging.getLogger(__name__)

_LOG_INTERVAL_SECONDS = 10.0


def encode_refusal(problem: Problem) -> bytes:
    """Return the HTTP/1.1 response of shape B for `problem`, which says that the connection is closed after it."""
    response = problem_response(problem)
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in (*response.raw_headers, *SECURITY_HEADERS)]
    return b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)])


class RefusalLog:
    """Counts refusals and logs them together, however many there are: one line in `_LOG_INTERVAL_SECONDS`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._logged_at = float("-inf")

    def add(self, reason: str) -> None:
        """Count one refusal."""
        self._counts[reason] += 1

    def flush(self, now: float) -> None:
        """Log what was counted, if the last line is old enough; `now` is the time of the event loop."""
        if self._counts and now - self._logged_at >= _LOG_INTERVAL_SECONDS:
            logger.warning(
                "refused connections and requests: %s",
                ", ".join(f"{count} of {reason}" for reason, count in self._counts.most_common()),
            )
            self._counts.clear()
            self._logged_at = now
