"""Failures of providers → problems a caller can act on. The HTTP status decides (behaviour.md §1.5).

400 404 409 413 422 …   Invalid 422            the provider refuses this request (a wrong key, with Google: 401), or
                                               withholds its answer (which may have cost something), or has moved (3xx)
401 403                 Unauthenticated 401    the key is wrong, or may not use this model
429                     RateLimited 429        with the provider's Retry-After
503 529, no connection  Unavailable 503        overloaded or not there: nothing was generated, try again
other 5xx, 408, 424,    UpstreamFailed 502     it failed on the way; the attempt may have cost something
silence                                        (424: the model behind AWS Bedrock failed)
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from services.generation.models.request import Json, ModelResponse
from shared.contracts.chat import Usage
from shared.errors import Invalid, Problem, RateLimited, Unauthenticated, Unavailable, UpstreamFailed


class _Silent(UpstreamFailed):
    """It took longer than we wait; what it did meanwhile is paid for."""


class _Broken(UpstreamFailed):
    """What it sent is no answer, and what it wrote is paid for."""

    sent: ModelResponse | None = None
    """As much of it as can be read."""


class _Withheld(Invalid):
    """The model answered and we do not get it; what it wrote is paid for."""

    sent: ModelResponse | None = None


_LONGEST_DETAIL = 2_000
_TELLING = 8
"""Characters of a part of a key that is worth hiding."""
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_KINDS: dict[int, type[Problem]] = {
    401: Unauthenticated,
    403: Unauthenticated,
    408: UpstreamFailed,
    424: UpstreamFailed,
    429: RateLimited,
    503: Unavailable,
    529: Unavailable,
}
_WRONG_KEY = re.compile(r"API key (not valid|not found|expired)", re.IGNORECASE)
"""Google says so with 400: https://ai.google.dev/gemini-api/docs/troubleshooting, 2026-11"""


def kind(status: int, detail: str | None = None) -> type[Problem]:
    """The class of problem a provider's status is; `detail` decides only where the status says too little."""
    if status == 400 and detail and _WRONG_KEY.match(detail):
        return Unauthenticated
    return _KINDS.get(status) or (Invalid if 400 <= status < 500 else UpstreamFailed)


def retry_after_seconds(header: str | None) -> float | None:
    """`Retry-After` in either of its forms (RFC 9110 §10.2.3); None if it is absent or neither."""
    if header is None:
        return None
    if _SECONDS.fullmatch(stripped := header.strip()):
        return float(stripped)
    try:
        moment = parsedate_to_datetime(header).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def worth_repeating(problem: Problem) -> bool:
    """Whether the same call may do better in a moment, and cost nothing so far: load, 5xx, no connection."""
    return type(problem) in {RateLimited, Unavailable, UpstreamFailed}


def in_trouble(problem: Problem) -> bool:
    """Whether the provider fails whatever it is sent. An answer that makes no sense may be due to the question."""
    return type(problem) in {Unavailable, UpstreamFailed, _Silent}


def masked(text: str, key: str | None) -> str:
    """`text` without the key, which some servers repeat in their errors; of a key of several parts, without each."""
    for part in (key, *key.split(":")) if key else ():
        if part == key or len(part) >= _TELLING:
            text = text.replace(part, "***")
    return text


def refused(title: str, status: int, detail: str | None, retry_after: str | None = None) -> Problem:
    """The problem for an answer with an error status."""
    if 300 <= status < 400:
        return Invalid(f"{title} has moved (status {status}): its address is not the right one.", origin=title)
    message = detail or f"{title} answered with status {status} and no explanation."
    return kind(status, detail)(_cut(message), origin=title, retry_after_seconds=retry_after_seconds(retry_after))


def unreachable(title: str) -> Problem:
    """Nothing was sent."""
    return Unavailable(f"{title} cannot be reached.", origin=title, retry_after_seconds=None)


def silent(title: str) -> Problem:
    """It took longer than we wait."""
    return _Silent(f"{title} did not answer in time.", origin=title)


def broken(title: str, what: str, sent: ModelResponse | None = None) -> Problem:
    """The answer is not what the provider's documentation promises; `sent` is what could be read of it."""
    problem = _Broken(_cut(f"{title} {what}"), origin=title)
    problem.sent = sent
    return problem


def withheld(title: str, what: str) -> Problem:
    """The provider does not give us what its model wrote."""
    return _Withheld(_cut(f"{title} {what}"), origin=title)


def blocked(title: str, what: str) -> Problem:
    """The provider did not show the prompt to its model."""
    return Invalid(_cut(f"{title} {what}"), origin=title)


def _cut(sentence: str) -> str:
    """Some explain at length; all of it would go into the log, the answer, and our own log."""
    return sentence[:_LONGEST_DETAIL]


@contextmanager
def telling(reply: Json, usage: Usage | None) -> Iterator[None]:
    """A problem found while reading `reply` knows the tokens it told."""
    try:
        yield
    except (_Broken, _Withheld) as problem:
        problem.sent = problem.sent or ModelResponse([], reply, usage)
        raise


def sent_with(problem: Problem) -> ModelResponse | None:
    """As much of an answer as came with it."""
    return problem.sent if isinstance(problem, _Broken | _Withheld) else None


def may_have_cost(problem: Problem) -> bool:
    """Whether the model may have worked before it came to this."""
    return isinstance(problem, UpstreamFailed | _Withheld)
