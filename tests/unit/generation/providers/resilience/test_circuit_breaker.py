"""When circuits open, let a trial call through, close, and are dropped."""

import time

import pytest

from services.generation.providers import errors
from services.generation.providers.resilience import circuit_breaker
from services.generation.providers.resilience.circuit_breaker import CircuitBreaker, CircuitOpen
from shared.errors import Invalid, RateLimited, Unavailable


def fail(circuit_breaker: CircuitBreaker, key: str, problem: Exception | None = None) -> None:
    problem = problem or Unavailable("away")
    with pytest.raises(type(problem)), circuit_breaker.guard(key):
        raise problem


def test_a_response_resets_the_count_of_failures() -> None:
    breaker = CircuitBreaker(2, 60)
    for ending in (None, Invalid("no")):
        fail(breaker, "a")
        if ending is None:
            with breaker.guard("a"):
                pass
        else:
            fail(breaker, "a", ending)
        fail(breaker, "a")
        with breaker.guard("a"):
            pass


@pytest.mark.parametrize(
    "neutral", [RateLimited("slow"), errors.invalid_response("X", "sent nonsense"), GeneratorExit()]
)
def test_neutral_failures_neither_count_nor_reset_the_count(neutral: Exception) -> None:
    breaker = CircuitBreaker(2, 60)
    for _ in range(3):
        fail(breaker, "b", neutral)
    fail(breaker, "a")
    fail(breaker, "a", neutral)
    fail(breaker, "a")
    with pytest.raises(CircuitOpen) as caught, breaker.guard("a"):
        pytest.fail("went through")
    assert 59 < caught.value.seconds <= 60


def test_one_trial_call_is_let_through_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    breaker = CircuitBreaker(1, 60)
    fail(breaker, "a")
    now = 61.0
    with breaker.guard("a"):
        now = 600.0
        with pytest.raises(CircuitOpen) as caught, breaker.guard("a"):
            pytest.fail("went through")
        assert caught.value.seconds == 60
    with breaker.guard("a"), breaker.guard("a"):
        pass


def test_a_timeout_counts() -> None:
    breaker = CircuitBreaker(1, 60)
    fail(breaker, "a", errors.timed_out("X"))
    with pytest.raises(CircuitOpen), breaker.guard("a"):
        pytest.fail("went through")


def test_the_circuits_that_failed_longest_ago_are_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "_MAX_CIRCUITS", 2)
    breaker = CircuitBreaker(1, 60)
    for key in "abc":
        fail(breaker, key)
    with breaker.guard("a"):
        pass
    for key in "bc":
        with pytest.raises(CircuitOpen), breaker.guard(key):
            pytest.fail("went through")
