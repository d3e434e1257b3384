"""Maps failures of providers to problems a caller can act on. The HTTP status decides (behaviour.md §1.5).

400 404 409 413 422 …   Invalid 422            the provider refuses this request (a wrong key, with Google: 401), or
                                               withholds its answer (which may have cost something), or has moved (3xx)
401 403                 Unauthenticated 401    the key is wrong, or may not use this model
429                     RateLimited 429        with the provider's Retry-After
503 529, no connection  Unavailable 503        overloaded or not there: nothing was generated, try again
other 5xx, 408, 424,    UpstreamFailed 502     it failed on the way; the attempt may have cost something
timeout                                        (424: the model behind AWS Bedrock failed)

An error that a provider tells under status 200 before any of its answer counts as if it had come with the status of its
type or code (`Dialect.read_error`), and costs nothing.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from services.generation.models.request import ModelResponse
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, Unavailable, UpstreamFailed


class _TimedOut(UpstreamFailed):
    """No response in time; the provider may charge for what it did meanwhile."""


class _InvalidResponse(UpstreamFailed):
    """The response broke off or cannot be read; the provider may charge for it."""


class _ResponseWithheld(Invalid):
    """The model answered, and the provider does not pass the answer on; it may charge for it."""


_PARTIAL_RESPONSE = "partial_response"
_FREE = "free"
"""Attributes of a problem: a problem of any class may come with a reply, which concerns this service alone."""


_MAX_MESSAGE_CHARACTERS = 2_000
"""Of a provider's explanation: all of it would go into the log, the answer, and our own log."""
_MIN_SECRET_CHARACTERS = 8
"""Of a part of a key: shorter ones are not masked."""
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_CLASSES: dict[int, type[Problem]] = {
    401: Unauthenticated,
    403: Unauthenticated,
    408: UpstreamFailed,
    424: UpstreamFailed,
    429: RateLimited,
    503: Unavailable,
    529: Unavailable,
}
_WRONG_KEY = re.compile(r"API key (not valid|not found|expired)", re.IGNORECASE)
"""Google answers 400 with this: https://ai.google.dev/gemini-api/docs/troubleshooting, 2026-11"""


def problem_class(status: int, detail: str | None = None) -> type[Problem]:
    """Return the class for a provider's error status; `detail` decides only where the status is ambiguous."""
    if status == 400 and detail and _WRONG_KEY.match(detail):
        return Unauthenticated
    return _CLASSES.get(status) or (Invalid if 400 <= status < 500 else UpstreamFailed)


def retry_after_seconds(header: str | None) -> float | None:
    """Parse `Retry-After` in either of its forms (RFC 9110 §10.2.3); None if it is absent or neither."""
    if header is None:
        return None
    if _SECONDS.fullmatch(stripped := header.strip()):
        return float(stripped)
    try:
        moment = parsedate_to_datetime(header).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def is_retryable(problem: Problem) -> bool:
    """Whether the same call may succeed in a moment and has cost nothing so far: load, 5xx, no connection."""
    return type(problem) in {RateLimited, Unavailable, UpstreamFailed}


def counts_as_failure(problem: Problem) -> bool:
    """Whether the circuit breaker counts it: not there, 5xx, timeout. An invalid response may be due to the request."""
    return type(problem) in {Unavailable, UpstreamFailed, _TimedOut}


def mask_key(text: str, key: str | None) -> str:
    """Return `text` with the key, and each longer part of a key of several parts, replaced by `***`.

    Some servers repeat the key in their errors.
    """
    for part in (key, *key.split(":")) if key else ():
        if part == key or len(part) >= _MIN_SECRET_CHARACTERS:
            text = text.replace(part, "***")
    return text


def from_status(title: str, status: int, detail: str | None, retry_after: str | None = None) -> Problem:
    """Return the problem for a status from 300 on; `detail` is the provider's message, `retry_after` the header."""
    if 300 <= status < 400:
        return Invalid(f"{title} has moved (status {status}): its address is not the right one.", origin=title)
    message = detail or f"{title} answered with status {status} and no explanation."
    return problem_class(status, detail)(
        _truncate(message), origin=title, retry_after_seconds=retry_after_seconds(retry_after)
    )


def unreachable(title: str) -> Problem:
    """Return the problem for a connection that could not be made: nothing was sent."""
    return Unavailable(f"{title} cannot be reached.", origin=title, retry_after_seconds=None)


def timed_out(title: str) -> Problem:
    """Return the problem for a response that did not come in time."""
    return _TimedOut(f"{title} did not answer in time.", origin=title)


def invalid_response(title: str, what: str, partial: ModelResponse | None = None) -> Problem:
    """Return the problem for a response that broke off, reports an error or is not of the documented form.

    `what` completes the sentence that begins with `title`; `partial` is as much of the response as could be read.
    """
    return attach_response(_InvalidResponse(_truncate(f"{title} {what}"), origin=title), partial)


def reported_error(title: str, status: int | None, detail: str, reply: ModelResponse) -> Problem:
    """Return the problem for an error that a response of status 200 tells instead of an answer: that of the status the
    provider would have sent with it, or 502. It cost nothing."""
    problem = problem_class(status or 502, detail)(_truncate(detail), origin=title)
    problem.retry_after_seconds = None
    vars(problem)[_FREE] = True
    return attach_response(problem, reply)


def response_withheld(title: str, what: str) -> Problem:
    """Return the problem for an answer that the provider does not pass on; `what` as in `invalid_response`."""
    return _ResponseWithheld(_truncate(f"{title} {what}"), origin=title)


def prompt_blocked(title: str, what: str) -> Problem:
    """Return the problem for a prompt that the provider did not give to its model; `what` as in `invalid_response`."""
    return Invalid(_truncate(f"{title} {what}"), origin=title)


def _truncate(message: str) -> str:
    """Return a message that can be stored: not too long, halves of surrogate pairs, which are no UTF-8, replaced."""
    return message[:_MAX_MESSAGE_CHARACTERS].encode(errors="replace").decode()


def attach_response(problem: Problem, response: ModelResponse | None) -> Problem:
    """Attach as much of a response as could be read to a problem that has none, and return the problem."""
    if response is not None:
        vars(problem).setdefault(_PARTIAL_RESPONSE, response)
    return problem


def partial_response(problem: Problem) -> ModelResponse | None:
    """Return as much of a response as came with the problem."""
    response: ModelResponse | None = vars(problem).get(_PARTIAL_RESPONSE)
    return response


def may_have_cost(problem: Problem) -> bool:
    """Whether the provider may charge for the failed call: the model may have worked before it failed."""
    return isinstance(problem, UpstreamFailed | _ResponseWithheld) and _FREE not in vars(problem)
