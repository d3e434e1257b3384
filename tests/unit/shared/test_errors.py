"""Problems: their statuses, codes and retries, and their way over the bus."""

import json

import pytest

from shared import errors
from shared.contracts.message import Failure
from shared.errors import Internal, Problem, RateLimited, Unavailable, from_failure

KINDS = Problem.__subclasses__()
PUBLISHED = {
    "bad_request_error",
    "authentication_error",
    "not_found_error",
    "unprocessable_entity_error",
    "rate_limit_error",
    "unknown_error",
    "service_unavailable_error",
}
"""The code strings that old clients know (behaviour.md 1.5)."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_crosses_the_bus_unchanged(kind: type[Problem]) -> None:
    sent = kind("A sentence, with ümlauts.", origin="OpenAI", retry_after_seconds=2.5)
    received = from_failure(Failure.model_validate_json(sent.to_failure().model_dump_json()))
    assert type(received) is kind
    assert (received.message, received.origin, received.retry_after_seconds) == (
        "A sentence, with ümlauts.",
        "OpenAI",
        2.5,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_class_has_its_own_status_and_code(kind: type[Problem]) -> None:
    assert 400 <= kind.__dict__["status"] < 600
    assert kind.__dict__["code"]
    assert kind.__doc__


def test_no_two_kinds_share_a_status() -> None:
    assert len({kind.status for kind in KINDS}) == len(KINDS)


def test_retryable_problems_are_marked() -> None:
    assert {kind.status for kind in KINDS if kind.retryable} == {408, 429, 502, 503}


def test_the_published_codes_are_all_there() -> None:
    assert {kind.code for kind in KINDS} >= PUBLISHED


def test_the_module_docstring_lists_every_problem() -> None:
    for kind in KINDS:
        assert f"{kind.__name__} " in (errors.__doc__ or "")
        assert f" {kind.status} " in (errors.__doc__ or "")


def test_a_failure_with_an_unknown_status_becomes_internal() -> None:
    assert isinstance(from_failure(Failure(status=599, message="?", origin="Humanloop")), Internal)


def test_unavailable_has_a_default_retry_after() -> None:
    assert Unavailable("Away.").retry_after_seconds == 1.0
    assert RateLimited("Slower.").retry_after_seconds is None


def test_a_failure_is_small_json() -> None:
    assert json.loads(RateLimited("Slower.", retry_after_seconds=3).to_failure().model_dump_json()) == {
        "status": 429,
        "message": "Slower.",
        "origin": "Humanloop",
        "retry_after_seconds": 3.0,
    }
